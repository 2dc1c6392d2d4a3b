package notify

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestInOrderWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		release := make(chan struct{})
		q := Queue[int]{Call: func(v int) {
			<-release
			got = append(got, v)
		}}
		for v := range 5 {
			q.Add(v)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("called with %v before it was let", got)
		}
		close(release)
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("called with %v, want %v", got, want)
		}
	})
}

func TestNobodyToCall(t *testing.T) {
	var q Queue[int]
	q.Add(1)
}
