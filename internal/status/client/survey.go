package client

import (
	"errors"
	"sync"
)

// Answer is what became of asking one registered monitor.
type Answer struct {
	Entry
	JSON []byte // as Status returns it; nil with an error
	Err  error
}

// askers is how many monitors are asked at the same time: a few that are
// stopped must not hold up the survey of a whole node for their time limits.
const askers = 16

// StatusAll asks every monitor in the registry. Those that have died are left
// out, and forgotten.
func StatusAll(registry string) ([]Answer, error) {
	entries, err := Bundles(registry)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(entries))
	next := make(chan int)
	var busy sync.WaitGroup
	for range min(askers, len(entries)) {
		busy.Go(func() {
			for i := range next {
				b, err := Status(entries[i].Bundle)
				answers[i] = Answer{entries[i], b, err}
			}
		})
	}
	for i := range entries {
		next <- i
	}
	close(next)
	busy.Wait()
	alive := answers[:0]
	for _, a := range answers {
		if errors.Is(a.Err, ErrNoMonitor) {
			a.Forget()
			continue
		}
		alive = append(alive, a)
	}
	return alive, nil
}
