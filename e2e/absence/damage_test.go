package absence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// how is what happens to an object.
type how string

const (
	deleted how = "deleted"
	emptied how = "emptied"
	cut     how = "cut"
	flipped how = "flipped"
	older   how = "older"
)

// damage is one object and what happens to it.
type damage struct {
	name string
	how  how
}

func (d damage) String() string { return d.name + " " + string(d.how) }

// cell is one or two damages.
type cell []damage

func (c cell) String() string {
	var all []string
	for _, d := range c {
		all = append(all, d.String())
	}
	return strings.Join(all, ", ")
}

// singles returns all damages that change something.
func (w *world) singles() (all []damage) {
	for _, name := range slices.Sorted(maps.Keys(w.image)) {
		all = append(all, damage{name, deleted})
		if len(w.image[name]) > 0 {
			all = append(all, damage{name, emptied}, damage{name, flipped})
		}
		if len(w.image[name]) > 1 {
			all = append(all, damage{name, cut})
		}
		if strings.Contains(name, "/pack-") || strings.Contains(name, "/.pack-") {
			for range 8 { // another byte each time
				all = append(all, damage{name, flipped})
			}
		}
		if _, ok := w.older[name]; ok {
			all = append(all, damage{name, older})
		}
	}
	return all
}

// apply returns the image with the damage of a cell. r decides which byte is flipped.
func (w *world) apply(c cell, r *rand.Rand) image {
	img := maps.Clone(w.image)
	for _, d := range c {
		body := img[d.name]
		switch d.how {
		case deleted:
			delete(img, d.name)
		case emptied:
			img[d.name] = nil
		case cut:
			img[d.name] = body[:len(body)/2]
		case flipped:
			img[d.name] = flip(body, r)
		case older:
			img[d.name] = w.older[d.name]
		default:
			panic(fmt.Sprint("unknown damage ", d.how))
		}
	}
	return img
}

// flip changes a bit in bytes that were written: the zeros with which a pack is filled
// have no meaning.
func flip(body []byte, r *rand.Rand) []byte {
	const page = 4096
	body = slices.Clone(body)
	at := r.IntN(len(body))
	if len(body) > page && r.IntN(2) == 0 { // where a group of a pack may begin
		for try := 0; try < 1000 && (body[at] == 0 || at%page > 64); try++ {
			at = r.IntN(len(body)/page)*page + r.IntN(64)
		}
	}
	for try := 0; body[at] == 0 && try < 1000; try++ {
		at = r.IntN(len(body))
	}
	for i := 0; body[at] == 0 && i < len(body); i++ {
		at = (at + 1) % len(body)
	}
	body[at] ^= 1 << r.IntN(8)
	return body
}
