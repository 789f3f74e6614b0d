package config

import (
	"strings"
	"testing"
)

func TestParseDriver(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Driver
		err  string
	}{
		{in: "k8s-file:/log", want: Driver{K8sFile, "/log"}},
		{in: "k8s-file:log", want: Driver{K8sFile, "log"}},
		{in: "k8s-file:/a:b", want: Driver{K8sFile, "/a:b"}},
		{in: "/log", want: Driver{K8sFile, "/log"}},
		{in: "/a:b", want: Driver{K8sFile, "/a:b"}},
		{in: "./a:b", want: Driver{K8sFile, "./a:b"}},
		{in: ":/log", want: Driver{K8sFile, "/log"}},
		{in: "log", want: Driver{K8sFile, "log"}},
		{in: ":journald", want: Driver{K8sFile, "journald"}},
		{in: ":none", want: Driver{K8sFile, "none"}},
		{in: "journald", want: Driver{Journald, ""}},
		{in: "journald:", want: Driver{Journald, ""}},
		{in: "journald:/ignored", want: Driver{Journald, ""}},
		{in: "passthrough", want: Driver{Passthrough, ""}},
		{in: "none", want: Driver{None, ""}},
		{in: "off:x", want: Driver{None, ""}},
		{in: "null:", want: Driver{None, ""}},
		{in: "json-file:/log", want: Driver{JSONFile, "/log"}},
		{in: "exec:/bin/logger?arg=a&arg=b:c", want: Driver{ExecLogger, "/bin/logger?arg=a&arg=b:c"}},
		{in: "", err: "log-path must not be empty"},
		{in: ":", err: "log-path must not be empty"},
		{in: "k8s-file", err: "k8s-file requires a filename"},
		{in: "k8s-file:", err: "k8s-file requires a filename"},
		{in: "json-file:", err: "json-file requires a filename"},
		{in: "exec", err: "exec requires a program"},
		{in: "exec:?arg=a", err: "exec requires a program"},
		{in: "fluentd:/log", err: "No such log driver fluentd"},
		{in: "fluentd:", err: "No such log driver fluentd"},
	} {
		got, err := ParseDriver(c.in)
		if got != c.want || message(err) != c.err {
			t.Errorf("%q: %v, %v", c.in, got, err)
		}
	}
}

func TestCheckLabel(t *testing.T) {
	const (
		form  = "Container labels must be in format LABEL=VALUE"
		chars = "Container label names must contain only uppercase letters, numbers and underscore"
	)
	for _, c := range []struct{ in, err string }{
		{in: "A_9=value, with anything"},
		{in: "A="},
		{"A", form},
		{"", form},
		{"=value", form},
		{"A=b=c", form},
		{"a=b", chars},
		{"MY%LABEL=b", chars},
	} {
		err := message(checkLabel(c.in))
		if (err == "") != (c.err == "") || !strings.HasPrefix(err, c.err) {
			t.Errorf("%q: %q, want %q", c.in, err, c.err)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
