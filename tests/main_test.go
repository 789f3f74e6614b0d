// Package tests holds the end-to-end tests of the monitor. README.md tells how
// to run and extend them.
package tests

import (
	"os"
	"testing"

	"conmon/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
