package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestHelpListsEverything(t *testing.T) {
	root := newTree()
	help := helpText(root)
	root.Flags().VisitAll(func(f *pflag.Flag) {
		if listed := strings.Contains(help, "--"+f.Name+" ") || strings.Contains(help, "--"+f.Name+"\n"); listed == f.Hidden {
			t.Errorf("--%s: listed %t, hidden %t", f.Name, listed, f.Hidden)
		}
	})
	// Scripts look for these.
	for _, word := range []string{"--exec", "journald", "log-global-size-max", "CONMON_ATTACH_ON_FULL", "reopen-logs", "completion"} {
		if !strings.Contains(help, word) {
			t.Errorf("the help has no %q", word)
		}
	}
	for line := range strings.Lines(help) {
		if len([]rune(line)) > helpWidth+2 {
			t.Errorf("line of %d characters: %s", len([]rune(line)), line)
		}
	}
}

func TestHelpCommand(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "status"}, {"status", "--help"}} {
		var out strings.Builder
		root := newTree()
		root.SetOut(&out)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if ofRoot := out.String() == helpText(root); out.Len() == 0 || ofRoot != (len(args) == 1) {
			t.Errorf("%q printed %q", args, out.String())
		}
	}
}

// The names that select the tree are the names in the tree.
func TestSubcommandNames(t *testing.T) {
	root := newTree()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if !isSubcommand([]string{cmd.Name()}) {
			t.Errorf("%s is taken for an engine's command line", cmd.Name())
		}
	}
}

func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"":              "status",
		"--log-pa":      "--log-path\tDRIVER[:PATH]; required, repeatable:",
		"--log-path ":   "journald",
		"--log-on-full": "--log-on-full",
	} {
		var out strings.Builder
		root := newTree()
		root.SetOut(&out)
		root.SetErr(&strings.Builder{})
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...))
		if err := root.Execute(); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if !slices.ContainsFunc(strings.Split(out.String(), "\n"), func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("%q offers no %q: %q", line, want, out.String())
		}
	}
}

func TestManPage(t *testing.T) {
	page := manPage(newTree())
	for _, want := range []string{
		".SH NAME\nconmon \\- monitor a container\n",
		".B \\-c, \\-\\-cid ID\n",
		".SS conmon status ",
		".B CONMON_LOG_MAX_LINE\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	requests := regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|B|br)\b`)
	for line := range strings.Lines(page) {
		if (line[0] == '.' || line[0] == '\'') && !requests.MatchString(line) {
			t.Errorf("troff takes this for a request: %s", line)
		}
	}
}

func TestRoffText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":      "plain",
		`back\slash`: `back\eslash`,
		"--flag":     `\-\-flag`,
		"a\n.b\n'c":  "a\n\\&.b\n\\&'c",
		"a\n.br\nb":  "a\n.br\nb",
	} {
		if got := roffText(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestVersionText(t *testing.T) {
	// CRI-O parses the third word as a strict semantic version.
	if !regexp.MustCompile(`^conmon version \d+\.\d+\.\d+\ncommit: \S+\n$`).MatchString(versionText()) {
		t.Errorf("%q", versionText())
	}
}
