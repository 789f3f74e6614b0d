package notify

import "bytes"

// exact and prefixes are the lines that a container may send to the host's
// service manager. Others would let it speak for the whole unit: MAINPID above
// all, which Podman itself sets to the monitor's pid.
var (
	exact    = [...]string{"READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "WATCHDOG=trigger"}
	prefixes = [...]string{"STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC="}
)

// filter appends those lines of message to out that may pass, each with its
// newline. An iterator over the lines would put the message on the heap.
func filter(out, message []byte) []byte {
	for len(message) > 0 {
		line := message
		if i := bytes.IndexByte(message, '\n'); i >= 0 {
			line, message = message[:i], message[i+1:]
		} else {
			message = nil
		}
		if passes(line) {
			out = append(append(out, line...), '\n')
		}
	}
	return out
}

func passes(line []byte) bool {
	for _, s := range exact {
		if string(line) == s {
			return true
		}
	}
	for _, s := range prefixes {
		if len(line) >= len(s) && string(line[:len(s)]) == s {
			return true
		}
	}
	return false
}
