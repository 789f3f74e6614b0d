package offload

import (
	"testing"
	"testing/synctest"
	"time"
)

// sleep is a job that takes its time.
type sleep time.Duration

func (s sleep) Run() { time.Sleep(time.Duration(s)) }

func TestDo(t *testing.T) {
	for _, tc := range []struct {
		name        string
		takes       time.Duration
		over        bool
		wakes       int
		waited      time.Duration
		busyAtFirst bool
	}{
		{"in time", 10 * time.Millisecond, true, 0, 10 * time.Millisecond, false},
		{"late", 300 * time.Millisecond, false, 1, 100 * time.Millisecond, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wakes := 0
				w := New(func() { wakes++ })
				defer w.Close()
				start := time.Now()
				if over := w.Do(sleep(tc.takes), 100*time.Millisecond); over != tc.over {
					t.Errorf("over %v", over)
				}
				if waited := time.Since(start); waited != tc.waited {
					t.Errorf("waited %v", waited)
				}
				if busy := w.Busy(); busy != tc.busyAtFirst {
					t.Errorf("busy %v", busy)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if w.Busy() {
					t.Error("still busy")
				}
				if wakes != tc.wakes {
					t.Errorf("woken %d times", wakes)
				}
				if !w.Do(sleep(0), time.Millisecond) {
					t.Error("the next job did not end")
				}
			})
		})
	}
}

func TestDoAllocatesNothing(t *testing.T) {
	w := New(func() {})
	defer w.Close()
	var j Job = sleep(0)
	if n := testing.AllocsPerRun(1000, func() { w.Do(j, time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What wake needs is given back after the last wake, however late that is.
func TestCloseWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		order := make(chan string, 3)
		w := New(func() { order <- "wake" })
		w.Do(sleep(300*time.Millisecond), 100*time.Millisecond)
		w.CloseWith(func() {
			order <- "last"
			close(order)
		})
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%q while the job runs", <-order)
		}
		for _, want := range []string{"wake", "last", ""} {
			if got := <-order; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}
