package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is what a process holds, in kilobytes. USS is what would be free again
// if it ended; PSS has its share of pages held by several.
type memory struct{ rss, pss, uss float64 }

func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(text)), nil
}

// parseMemory reads the format of /proc/PID/smaps_rollup.
func parseMemory(text string) memory {
	var m memory
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kb, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "Rss:":
			m.rss = kb
		case "Pss:":
			m.pss = kb
		case "Private_Clean:", "Private_Dirty:":
			m.uss += kb
		}
	}
	return m
}

// switches counts how often each thread of a process has gone to sleep or was
// preempted since it started: the difference of two readings is the number of
// times that the process was woken up.
func switches(pid int) (count, threads int, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, 0, err
		}
		count += parseSwitches(string(text))
	}
	return count, len(files), nil
}

// parseSwitches adds up both kinds of context switches of /proc/PID/status.
func parseSwitches(text string) int {
	sum := 0
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		if strings.HasSuffix(key, "voluntary_ctxt_switches") {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			sum += n
		}
	}
	return sum
}

// cpuTime is the user and system time of a process, without its children's.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(text)
}

// parseCPU reads fields 14 and 15 of /proc/PID/stat. Linux counts in hundredths
// of a second there, whatever the kernel's own tick.
func parseCPU(stat []byte) (time.Duration, error) {
	// The command's name, in parentheses, may hold anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("parse stat %q", stat)
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("parse stat %q", stat)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
