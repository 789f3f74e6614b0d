package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"conmon/internal/status/client"
)

func statusCommand() *cobra.Command {
	var who target
	format := "text"
	cmd := &cobra.Command{
		Use:   "status {-b BUNDLE | --all} [--format text|json|prometheus]",
		Short: "Show what a container's monitor is doing",
		Long: `Show what a container's monitor is doing: process ids, output read, written and
lost, attach clients, OOM events, memory, version.

With --format json, one object as docs/status.json.md describes it, or with
--all a list of them. With --format prometheus, metrics in the text format, fit
for a textfile collector.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, ok := statusFormats(format)
			if !ok {
				return fmt.Errorf("--format: %q is none of text, json and prometheus", format)
			}
			return showStatus(cmd.OutOrStdout(), who, write)
		},
	}
	who.bindAll(cmd)
	cmd.Flags().StringVar(&format, "format", format, "text, json or prometheus")
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json", "prometheus"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// statusFormat writes answers. many is set where there may be any number of them.
type statusFormat func(w io.Writer, answers []client.Answer, many bool) error

func statusFormats(name string) (statusFormat, bool) {
	switch name {
	case "text":
		return writeTexts, true
	case "json":
		return writeJSON, true
	case "prometheus":
		return writePrometheus, true
	}
	return nil, false
}

func showStatus(w io.Writer, who target, write statusFormat) error {
	if !who.all {
		b, err := client.Status(who.bundle)
		if err != nil {
			return err
		}
		return write(w, []client.Answer{{JSON: b}}, false)
	}
	answers, silent, err := survey()
	if err != nil {
		return err
	}
	return errors.Join(silent, write(w, answers, true))
}

// survey asks every registered monitor. silent says why some gave no answer.
func survey() (answers []client.Answer, silent, err error) {
	all, err := client.StatusAll(registryDir())
	if err != nil {
		return nil, nil, err
	}
	for _, a := range all {
		if a.Err != nil {
			silent = errors.Join(silent, a.Err)
			continue
		}
		answers = append(answers, a)
	}
	return answers, silent, nil
}

// parseAll understands the answers that it can; the others are in the error.
func parseAll(answers []client.Answer) (reports []*client.Report, problem error) {
	for _, a := range answers {
		r, err := client.Parse(a.JSON)
		if err != nil {
			problem = errors.Join(problem, err)
			continue
		}
		reports = append(reports, r)
	}
	return reports, problem
}

func writeTexts(w io.Writer, answers []client.Answer, _ bool) error {
	reports, problem := parseAll(answers)
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := client.WriteText(w, r); err != nil {
			return err
		}
	}
	return problem
}

// writeJSON passes the answers on as they came, with what a later monitor may
// have added to them.
func writeJSON(w io.Writer, answers []client.Answer, many bool) error {
	var b []byte
	if many {
		b = append(b, '[')
	}
	for i, a := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, a.JSON...)
	}
	if many {
		b = append(b, "]\n"...)
	}
	_, err := w.Write(b)
	return err
}

func writePrometheus(w io.Writer, answers []client.Answer, _ bool) error {
	reports, problem := parseAll(answers)
	if err := client.WritePrometheus(w, reports); err != nil {
		return err
	}
	return problem
}

func psCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "ps",
		Short:             "List the containers whose monitors run here",
		Long:              "List the containers whose monitors run here, one line each, whichever engine started them.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answers, silent, err := survey()
			if err != nil {
				return err
			}
			reports, problem := parseAll(answers)
			return errors.Join(silent, problem, client.WriteTable(cmd.OutOrStdout(), reports))
		},
	}
}
