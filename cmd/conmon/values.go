package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"conmon/internal/config"
)

// value is a flag whose text is checked when it is set, so that the complaint
// names the flag, or the variable, that it came from.
type value struct {
	text string // as given, or the default as the help shows it
	kind string
	set  func(text string) error
}

func (v *value) String() string { return v.text }

// Type names the kind of value; pflag puts strings in quotes, others not.
func (v *value) Type() string { return v.kind }

func (v *value) Set(text string) error {
	if err := v.set(text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// parsedVar defines a flag that is read by parse. The default is *p already;
// initial is how the help shows it.
func parsedVar[T any](fs *pflag.FlagSet, p *T, parse func(string) (T, error), name, short, initial, usage string) {
	fs.VarP(&value{initial, "value", func(text string) error {
		v, err := parse(text)
		if err == nil {
			*p = v
		}
		return err
	}}, name, short, usage)
}

// number defines a flag that is a whole number of at most bits bits, as wide
// as conmon's, whatever width it is kept in.
func number[T int | int64](fs *pflag.FlagSet, p *T, bits int, name, short, usage string) {
	parse := func(text string) (T, error) {
		n, err := config.ParseNumber(text, bits)
		return T(n), err
	}
	parsedVar(fs, p, parse, name, short, strconv.FormatInt(int64(*p), 10), usage)
}

// choiceVar defines a flag with two words: no, the default, and yes, which
// makes *p true.
func choiceVar(fs *pflag.FlagSet, p *bool, name, no, yes, usage string) {
	fs.Var(&value{no, "choice", func(text string) error {
		if text != no && text != yes {
			return fmt.Errorf("neither %s nor %s", no, yes)
		}
		*p = text == yes
		return nil
	}}, name, usage)
}

// compressValue is --log-compress; "none" takes back what the environment says.
func compressValue(p *string) pflag.Value {
	return &value{"none", "choice", func(text string) error {
		switch text {
		case "none":
			*p = ""
		case "gzip", "zstd":
			*p = text
		default:
			return errors.New("neither gzip, zstd nor none")
		}
		return nil
	}}
}

// rateValue is --log-rate-limit.
func rateValue(limit, burst *int64) pflag.Value {
	return &value{"", "rate", func(text string) error {
		l, b, err := config.ParseRate(text)
		if err == nil {
			*limit, *burst = l, b
		}
		return err
	}}
}
