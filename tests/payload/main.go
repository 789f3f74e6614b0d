// Command payload is what runs in the containers of tests that a shell cannot
// do: it writes at a rate, writes on demand, answers signals, leaves orphans.
//
//	payload flood SEED BYTES [err]  write that much of the sample, to standard error if told so
//	payload talk SEED RATE     write the sample, RATE MB a second, until standard input ends;
//	                           then tell both streams' lengths and checksums on standard error
//	payload steps SEED BYTES   write that much more of it for each byte on standard input
//	payload count N LENGTH RATE  write N numbered lines of LENGTH bytes, RATE a second (0: as
//	                           fast as it goes)
//	payload signals            print the name of each signal it gets; SIGHUP ends it
//	payload orphans N          start N processes that end after their parent
//	payload churn N            close and open its standard streams again and again
//	payload stuff FILE         make its pipes as big as they can be, write empty lines until
//	                           they are full, make the file, end
//	payload notify SOCKET N    send N datagrams, most of them rubbish
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/sample"
)

func main() {
	args := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "flood":
		out := os.Stdout
		if len(args) > 2 {
			out = os.Stderr
		}
		_, err = io.CopyN(out, sample.New(uint64(number(args[0]))), int64(number(args[1])))
	case "talk":
		err = talk(uint64(number(args[0])), number(args[1]))
	case "steps":
		err = steps(uint64(number(args[0])), int64(number(args[1])))
	case "count":
		err = count(number(args[0]), number(args[1]), number(args[2]))
	case "signals":
		signals()
	case "orphans":
		err = orphans(number(args[0]))
	case "churn":
		err = churn(number(args[0]))
	case "stuff":
		err = stuff(args[0])
	case "notify":
		err = notify(args[0], number(args[1]))
	default:
		err = errors.New("unknown command")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(1)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// pace lets a loop go on at a rate.
type pace struct {
	start time.Time
	done  int
	rate  int // units a second, 0: no limit
}

func (p *pace) wait(units int) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	if p.done += units; p.rate > 0 {
		time.Sleep(time.Until(p.start.Add(time.Duration(float64(p.done) / float64(p.rate) * float64(time.Second)))))
	}
}

// summer counts and sums what goes through it.
type summer struct {
	name string
	n    int64
	sum  hash.Hash
}

func (s *summer) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.sum.Write(p)
}

func (s *summer) tell() { fmt.Fprintf(os.Stderr, "%s %d %x\n", s.name, s.n, s.sum.Sum(nil)) }

func talk(seed uint64, rate int) error {
	in, out := &summer{"stdin", 0, sha256.New()}, &summer{"stdout", 0, sha256.New()}
	over := make(chan error, 1)
	go func() {
		_, err := io.Copy(in, os.Stdin)
		over <- err
	}()
	lines, buf, p := sample.New(seed), make([]byte, 100<<10), pace{rate: rate << 20}
	for {
		select {
		case err := <-over:
			in.tell()
			out.tell()
			return err
		default:
		}
		_, _ = lines.Read(buf)
		if _, err := io.MultiWriter(os.Stdout, out).Write(buf); err != nil {
			return err
		}
		p.wait(len(buf))
	}
}

func steps(seed uint64, size int64) error {
	lines := sample.New(seed)
	var b [1]byte
	for {
		if _, err := os.Stdin.Read(b[:]); err != nil {
			return nil
		}
		if _, err := io.CopyN(os.Stdout, lines, size); err != nil {
			return err
		}
	}
}

func count(n, length, rate int) error {
	p := pace{rate: rate}
	var buf []byte
	filler := strings.Repeat("x", max(length-11, 0))
	for i := range n {
		buf = fmt.Appendf(buf, "%09d %s\n", i, filler)
		// One write a line at a rate, big ones at full speed.
		if rate == 0 && len(buf) < 32<<10 && i < n-1 {
			continue
		}
		if _, err := os.Stdout.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
		p.wait(1)
	}
	return nil
}

func signals() {
	c := make(chan os.Signal, 1000)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
	fmt.Println("ready")
	for s := range c {
		fmt.Println(unix.SignalName(s.(syscall.Signal)))
		if s == syscall.SIGHUP {
			return
		}
	}
}

// orphans starts shells whose children outlive them for a moment.
func orphans(n int) error {
	for i := 0; i < n; i += 50 {
		script := "i=0; while [ $i -lt " + strconv.Itoa(min(50, n-i)) + " ]; do (sleep 0.0$((i%9+1)) &) ; i=$((i+1)); done"
		if err := exec.Command("/bin/sh", "-c", script).Run(); err != nil {
			return err
		}
	}
	return nil
}

// churn closes its output and opens the same pipe again by another descriptor.
func churn(n int) error {
	keep, err := unix.Dup(1)
	if err != nil {
		return err
	}
	for i := range n {
		for fd := 1; fd <= 2; fd++ {
			if err := unix.Close(fd); err != nil {
				return err
			}
			again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(keep), unix.O_WRONLY, 0)
			if err != nil || again != fd {
				return fmt.Errorf("opening the pipe again: %d, %w", again, err)
			}
		}
		fmt.Println(i)
	}
	// And now for good: the container lives on without any output.
	for _, fd := range []int{keep, 1, 2} {
		_ = unix.Close(fd)
	}
	time.Sleep(2 * time.Second)
	return nil
}

func notify(path string, n int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrUnix{Name: path}
	rubbish := [][]byte{
		[]byte("MAINPID=1"), []byte("\n\n\n"),
		{0xff, 0, 0xfe},
		[]byte(strings.Repeat("STATUS=\n", 8000)),
		[]byte("STATUS=" + strings.Repeat("y", 50000)), []byte("FDSTORE=1\nMAINPID=77\nREADY=0"),
		{},
	}
	for i := range n {
		if err := unix.Sendto(fd, rubbish[i%len(rubbish)], 0, to); err != nil {
			return err
		}
	}
	return unix.Sendto(fd, []byte("READY=1\nMAINPID=1"), 0, to)
}

// stuff leaves as much work as possible to whoever reads its pipes.
func stuff(done string) error {
	const most = 1 << 20 // what anybody may have
	lines := []byte(strings.Repeat("\n", most))
	for fd := 1; fd <= 2; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, most); err != nil {
			return err
		}
		for range 2 { // the second one fits when the first has been read
			if _, err := unix.Write(fd, lines); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(done, nil, 0o600)
}
