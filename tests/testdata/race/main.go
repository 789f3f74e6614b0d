// Command race has a data race on the heap and nothing else.
package main

import "runtime"

type shared struct{ n int }

//go:noinline
func newShared() *shared { return new(shared) }

func main() {
	s, done := newShared(), make(chan struct{})
	go func() {
		s.n++
		close(done)
	}()
	for range 100 {
		s.n++
		runtime.Gosched()
	}
	<-done
}
