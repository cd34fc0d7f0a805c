package wal

import (
	"encoding/binary"
	"github.com/weirmq/weir/storage/weir"
	"path/filepath"
	"slices"
)

const (
	gapsName  = "gaps"
	maxReason = 200
)

// gaps are the holes of a lane that have been handed out. They stay holes even if a bad
// block becomes readable again: a record that was reported missing must not be
// delivered later.
type gaps struct {
	list  *list
	known []weir.Gap // in order
}

// open reads the lane's list of gaps, if it has one.
func (g *gaps) open(d *disk, dir string, s salt) error {
	var err error
	g.list, err = openList(d, filepath.Join(dir, gapsName), s^partGaps, kindGap, func(body []byte) error {
		gap, err := parseGap(body)
		if err == nil {
			g.insert(gap)
		}
		return err
	})
	return err
}

// at returns the gap that holds seq.
func (g *gaps) at(seq uint64) (weir.Gap, bool) {
	i, _ := slices.BinarySearchFunc(g.known, seq, func(gap weir.Gap, seq uint64) int {
		if gap.Last < seq {
			return -1
		}
		return 1
	})
	if i < len(g.known) && g.known[i].First <= seq {
		return g.known[i], true
	}
	return weir.Gap{}, false
}

// until returns the last sequence of from to last that lies before the next known gap
// behind from.
func (g *gaps) until(from, last uint64) uint64 {
	i, _ := slices.BinarySearchFunc(g.known, from, func(gap weir.Gap, seq uint64) int {
		if gap.First <= seq {
			return -1
		}
		return 1
	})
	if i < len(g.known) {
		return min(last, g.known[i].First-1)
	}
	return last
}

// add remembers a gap. After an error it is remembered in memory only.
func (g *gaps) add(gap weir.Gap) error {
	body := appendGap(nil, gap)
	err := g.list.append(body, func(add func([]byte)) {
		for _, k := range g.known {
			add(appendGap(nil, k))
		}
	})
	g.insert(gap)
	return err
}

func (g *gaps) insert(gap weir.Gap) {
	i, _ := slices.BinarySearchFunc(g.known, gap.First, func(k weir.Gap, first uint64) int {
		if k.First <= first {
			return -1
		}
		return 1
	})
	g.known = slices.Insert(g.known, i, gap)
}

// appendGap appends the body of a gap frame.
func appendGap(dst []byte, gap weir.Gap) []byte {
	dst = binary.BigEndian.AppendUint64(dst, gap.First)
	dst = binary.BigEndian.AppendUint64(dst, gap.Last)
	exact := byte(0)
	if gap.Exact {
		exact = 1
	}
	dst = append(dst, exact)
	return append(dst, gap.Reason[:min(len(gap.Reason), maxReason)]...)
}

// parseGap accepts only what appendGap wrote.
func parseGap(p []byte) (weir.Gap, error) {
	if len(p) < 17 || len(p) > 17+maxReason || p[16] > 1 {
		return weir.Gap{}, corrupt("gap of %d bytes", len(p))
	}
	gap := weir.Gap{
		First:  binary.BigEndian.Uint64(p),
		Last:   binary.BigEndian.Uint64(p[8:]),
		Exact:  p[16] == 1,
		Reason: string(p[17:]),
	}
	if gap.First == 0 || gap.Last < gap.First {
		return weir.Gap{}, corrupt("gap from %d to %d", gap.First, gap.Last)
	}
	return gap, nil
}
