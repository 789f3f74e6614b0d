package main

import (
	"strings"

	"conmon/internal/version"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand prints the manual page. It is hidden: packages run it when they
// are built, people read its output.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write([]byte(manPage(cmd.Root())))
			return err
		},
	}
}

// manPage returns conmon(1), written from the same flags as the help.
func manPage(root *cobra.Command) string {
	var r roff
	r.line(`.TH CONMON 1 "" "conmon ` + version.Number + `"`)
	r.section("NAME")
	r.text("conmon - monitor a container")
	r.section("SYNOPSIS")
	r.line(".B conmon")
	r.text("-c CID -u UUID -r RUNTIME -l DRIVER[:PATH] [OPTION]…")
	r.line(".br", ".B conmon")
	r.text("COMMAND [OPTION]…")
	r.section("DESCRIPTION")
	intro, _, _ := strings.Cut(helpHead, "\n\n")
	r.text(intro)
	r.section("OPTIONS")
	for _, g := range flagsByGroup() {
		r.line(".SS " + g.title)
		g.flags.VisitAll(r.flag)
	}
	r.line(".PP")
	r.text(strings.TrimSpace(helpTail))
	r.section("COMMANDS")
	for _, cmd := range root.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		r.line(".SS conmon " + roffText(cmd.Use))
		r.text(longText(cmd))
		cmd.LocalFlags().VisitAll(r.flag)
	}
	r.section("ENVIRONMENT")
	for _, name := range envFlags {
		r.item(envName(name), "as --"+name+", where that is not given")
	}
	r.item("CONMON_REGISTRY_DIR", "directory in which running monitors are listed (/run/conmon, or $XDG_RUNTIME_DIR/conmon)")
	r.section("EXIT STATUS")
	r.text(helpExit)
	r.section("SEE ALSO")
	r.text("podman(1), crio(8), runc(8), crun(1)")
	return r.String()
}

// roff is a manual page in the making.
type roff struct{ strings.Builder }

func (r *roff) line(lines ...string) {
	for _, l := range lines {
		r.WriteString(l + "\n")
	}
}

func (r *roff) section(title string) { r.line(".SH " + title) }

// text writes lines of running text.
func (r *roff) text(s string) { r.line(roffText(strings.TrimSpace(s))) }

// item writes a term and what it means. Lines of the meaning stay lines.
func (r *roff) item(term, meaning string) {
	r.line(".TP", ".B "+roffText(term))
	r.text(strings.ReplaceAll(meaning, "\n", "\n.br\n"))
}

// flag writes one flag, unless it is hidden.
func (r *roff) flag(f *pflag.Flag) {
	if f.Hidden {
		return
	}
	operand, usage := pflag.UnquoteUsage(f)
	term := "--" + f.Name
	if f.Shorthand != "" {
		term = "-" + f.Shorthand + ", " + term
	}
	if operand != "" {
		term += " " + operand
	}
	switch f.DefValue {
	case "", "0", "false", "[]":
	default:
		usage += " (default " + f.DefValue + ")"
	}
	r.item(term, usage)
}

// roffText escapes what troff would understand: backslashes, hyphens, which it
// would make typographic ones, and a dot or quote at the beginning of a line.
func roffText(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") && l != ".br" || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// longText returns the fullest description that a command has.
func longText(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short
}
