package tests

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// calls returns the command lines that the fake runtime wrote to FAKE_ARGV.
func calls(t *testing.T, path string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		var argv []string
		if err := json.Unmarshal([]byte(line), &argv); err != nil {
			t.Fatal(err)
		}
		all = append(all, argv)
	}
	return all
}
