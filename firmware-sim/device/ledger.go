package device

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// Ledger writes a line for each finished reading: device, number, QoS, how often it was sent, and 1
// if it was acknowledged. QoS 0 readings are finished when they are sent.
type Ledger struct {
	mu  sync.Mutex
	w   *bufio.Writer
	err error
}

// NewLedger returns a Ledger that writes to w. Call Flush before closing w.
func NewLedger(w io.Writer) *Ledger { return &Ledger{w: bufio.NewWriterSize(w, 1<<16)} }

// Event has the signature of a Fleet's Event.
func (l *Ledger) Event(r Reading, o Outcome) {
	if o == Sent && r.QoS > 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, "%s\t%d\t%d\t%d\t%d\n", r.Device, r.N, r.QoS, r.Sends, bit(r.Acked))
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Flush writes what is buffered and returns the first error.
func (l *Ledger) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.w.Flush())
}

// ReadLedger calls fn for each line of a ledger.
func ReadLedger(r io.Reader, fn func(Reading)) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		reading, err := parseReading(lines.Text())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		fn(reading)
	}
	return lines.Err()
}

func parseReading(line string) (Reading, error) {
	f := strings.Split(line, "\t")
	if len(f) != 5 || f[0] == "" {
		return Reading{}, errors.New("not a line of five fields")
	}
	var nums [4]int
	for i := range nums {
		n, err := strconv.Atoi(f[i+1])
		if err != nil || n < 0 {
			return Reading{}, fmt.Errorf("field %d: %q is not a number", i+2, f[i+1])
		}
		nums[i] = n
	}
	if nums[0] < 1 || nums[1] > 2 || nums[3] > 1 {
		return Reading{}, errors.New("a number is out of range")
	}
	return Reading{Device: f[0], N: nums[0], QoS: byte(nums[1]), Sends: nums[2], Acked: nums[3] == 1}, nil
}
