// Bench measures two container monitors side by side, in turn: Debian's conmon
// as the baseline, and ours. It prints a table and writes every sample as JSON;
// "bench plot bench.json out.svg" draws that file.
//
// Both monitors are started as Podman starts them, with a trivial runtime and a
// trivial container (tool/tool.c), on a tmpfs, so that nothing but the monitor
// makes a difference. docs/performance.md explains each figure's method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

func main() {
	// The copy or link of this program that stands in for tool.c.
	if filepath.Base(os.Args[0]) == toolName {
		os.Exit(toolMain(os.Args[1:]))
	}
	err := run(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options is what the command line said.
type options struct {
	baseline, ours string // the binaries
	out            string // where the JSON goes
	only           *regexp.Regexp
	quick          bool
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 3 && args[0] == "plot" {
		return plotFile(args[1], args[2])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	report, err := b.measureAll(o)
	if err != nil {
		return err
	}
	if err := printTable(stdout, report); err != nil {
		return err
	}
	return report.write(o.out)
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.baseline, "a", "/usr/bin/conmon", "the baseline `binary` (Debian's package conmon)")
	fs.StringVar(&o.ours, "b", "bin/conmon", "our `binary`")
	fs.StringVar(&o.out, "o", "bench.json", "`file` for the samples")
	fs.BoolVar(&o.quick, "quick", false, "fewer rounds, fewer monitors, less data: a minute instead of six")
	only := fs.String("only", "", "measure only the groups whose name matches this `regexp`: "+groupNames())
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: bench [flags]\n       bench plot bench.json out.svg")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("stray argument %q", fs.Arg(0))
	}
	re, err := regexp.Compile(*only)
	if err != nil {
		return o, fmt.Errorf("parse -only: %w", err)
	}
	o.only = re
	return o, nil
}
