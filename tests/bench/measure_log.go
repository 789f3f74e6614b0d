package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordHead is the length of what the CRI format puts before a line.
const recordHead = len("2006-01-02T15:04:05.999999999+01:00 stdout F ")

// load is an amount of output, in lines of one length (newline included), to a
// log driver.
type load struct {
	length int
	total  int64
	driver string // empty: k8s-file
}

func (l load) scaled(quick bool) load {
	if quick {
		l.total /= 4
	}
	l.total -= l.total % int64(l.length)
	return l
}

// logSize is the size of the log file if every line is one record.
func (l load) logSize() int64 {
	return l.total + l.total/int64(l.length)*int64(recordHead)
}

func (l load) mode(name string) []string {
	return []string{name, strconv.Itoa(l.length), strconv.FormatInt(l.total, 10)}
}

// measure has a container write as fast as it can, and takes the time from its
// start to the exit file, before which everything has to be in the log.
// Samples: MB/s of the container's output, seconds of the monitor's processor
// time (for the whole amount, quick or not).
func (l load) measure(b *bench, s *side, quick bool) ([]float64, error) {
	full := l
	l = l.scaled(quick)
	if err := b.warm(l.logSize() + l.logSize()/4); err != nil {
		return nil, err
	}
	m, err := b.start(s, job{mode: l.mode("write"), driver: l.driver})
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := m.begin(); err != nil {
		return nil, err
	}
	end, err := b.exits.await(m)
	if err != nil {
		return nil, err
	}
	if err := l.check(m); err != nil {
		return nil, err
	}
	return []float64{
		float64(l.total) / 1e6 / end.Sub(begin).Seconds(),
		m.cpu.Seconds() * float64(full.total) / float64(l.total),
	}, nil
}

// check ends m and looks whether its log is complete. That of the journal is not
// looked at: a monitor may give up what journald has not taken when its time for
// the end is over.
func (l load) check(m *monitor) error {
	if l.driver == journald {
		m.end()
		return nil
	}
	log, err := os.Open(m.log)
	if err != nil {
		return err
	}
	defer log.Close()
	m.end()
	if l.driver == jsonFile {
		// conmon writes a CRI log instead, with long lines in pieces.
		lines, err := countLines(log)
		if err == nil && lines < l.total/int64(l.length) {
			err = fmt.Errorf("the log has %d of %d lines", lines, l.total/int64(l.length))
		}
		return err
	}
	if got, err := payload(log); err != nil || got != l.total {
		return fmt.Errorf("the log holds %d of %d bytes: %w", got, l.total, err)
	}
	return nil
}

func countLines(r io.Reader) (lines int64, err error) {
	buf := make([]byte, 1<<20)
	for {
		n, err := r.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

// limit copies the same output from a pipe to a file on the same file system,
// in as many bytes as the log has. Sample: MB/s of the output.
func (l load) limit(b *bench, quick bool) (float64, error) {
	l = l.scaled(quick)
	if err := b.warm(l.logSize() + l.logSize()/4); err != nil {
		return 0, err
	}
	out := filepath.Join(b.dir, "copy")
	defer os.Remove(out)
	feed := exec.Command(b.tool, l.mode("feed")...)
	copier := exec.Command(b.tool, "copy", strconv.Itoa(l.length), out)
	pipe, err := feed.StdoutPipe()
	if err != nil {
		return 0, err
	}
	copier.Stdin = pipe
	begin := time.Now()
	if err := copier.Start(); err != nil {
		return 0, err
	}
	if err := feed.Run(); err != nil {
		_ = copier.Process.Kill()
		return 0, errors.Join(err, copier.Wait())
	}
	err = copier.Wait()
	return float64(l.total) / 1e6 / time.Since(begin).Seconds(), err
}

// payload counts the container's bytes in a CRI log: what follows each record's
// head, and the newline of whole lines.
func payload(log io.Reader) (int64, error) {
	var sum int64
	buf, have := make([]byte, 1<<20), 0
	for {
		n, err := log.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			if end < recordHead {
				return sum, fmt.Errorf("record %q", rest[:end])
			}
			sum += int64(end - recordHead)
			if rest[recordHead-2] == 'F' {
				sum++
			}
			rest = rest[end+1:]
		}
		have = copy(buf, rest)
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		if have == len(buf) {
			return sum, errors.New("record of a megabyte")
		}
	}
}

// attachLoad is output to one attach client, and to a log driver.
type attachLoad struct{ driver string }

// measure takes the time from the container's start to the client's end of
// file. Sample: MB/s.
func (a attachLoad) measure(b *bench, s *side, quick bool) ([]float64, error) {
	l := load{length: 100, total: 256e6}.scaled(quick)
	if err := b.warm(l.logSize()); err != nil {
		return nil, err
	}
	m, err := b.start(s, job{mode: l.mode("write"), driver: a.driver})
	if err != nil {
		return nil, err
	}
	client, err := attach(m)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	drain := exec.Command(b.tool, "drain")
	drain.Stdin = client
	var out strings.Builder
	drain.Stdout = &out
	if err := drain.Start(); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := m.begin(); err != nil {
		return nil, err
	}
	if err := drain.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if _, err := b.exits.await(m); err != nil {
		return nil, err
	}
	m.end()
	if got := strings.TrimSpace(out.String()); got != strconv.FormatInt(l.total, 10) {
		return nil, fmt.Errorf("the client got %s of %d bytes", got, l.total)
	}
	return []float64{float64(l.total) / 1e6 / took.Seconds()}, nil
}

// attach connects to a monitor's attach socket. The monitor may not have
// accepted yet; it looks for clients before it reads output that comes later.
func attach(m *monitor) (*os.File, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: filepath.Join(m.dir, "attach")})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client, err := conn.File()
	if err != nil {
		return nil, err
	}
	return client, unix.SetNonblock(int(client.Fd()), false)
}
