package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// assigned makes the topics a, b, … with these partitions, of which each member
// reads those in its word, and runs an assignor.
func assigned(assign assignor, sizes []int32, words []string, before map[Partition]*consumer, known map[string]*consumer) (map[Partition]*consumer, []readers) {
	var members []*consumer
	of := make([]readers, len(sizes))
	for i, n := range sizes {
		of[i].topic = topic{idOf(string(rune('a' + i))), n}
	}
	for i, word := range words {
		id := fmt.Sprintf("m%02d", i)
		if known[id] == nil {
			known[id] = &consumer{id: id, arrival: uint64(i)}
		}
		if word == "" {
			continue
		}
		members = append(members, known[id])
		for _, t := range word {
			of[t-'a'].members = append(of[t-'a'].members, known[id])
		}
	}
	maps.DeleteFunc(before, func(_ Partition, m *consumer) bool { return words[m.arrival] == "" })
	of = slices.DeleteFunc(of, func(t readers) bool { return len(t.members) == 0 })
	return assign(members, of, before), of
}

func parts(of map[Partition]*consumer, id string) string {
	var all []Partition
	for p, m := range of {
		if m.id == id {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, comparePartitions)
	return partitionNames(all)
}

func TestAssignRange(t *testing.T) {
	for _, c := range []struct {
		sizes []int32
		words []string
		want  []string
	}{
		{[]int32{4}, []string{"a", "a"}, []string{"a0 a1", "a2 a3"}},
		{[]int32{5, 5}, []string{"ab", "ab", "ab"}, []string{"a0 a1 b0 b1", "a2 a3 b2 b3", "a4 b4"}},
		{[]int32{1, 2}, []string{"ab", "ab"}, []string{"a0 b0", "b1"}},
		{[]int32{1}, []string{"a", "a", "a"}, []string{"a0", "", ""}},
		{[]int32{2, 2}, []string{"a", "ab"}, []string{"a0", "a1 b0 b1"}},
	} {
		got, _ := assigned(assignRange, c.sizes, c.words, nil, map[string]*consumer{})
		for i, want := range c.want {
			if p := parts(got, fmt.Sprintf("m%02d", i)); p != want {
				t.Errorf("%v %v: member %d has %q, want %q", c.sizes, c.words, i, p, want)
			}
		}
	}
}

func TestAssignUniform(t *testing.T) {
	known := map[string]*consumer{}
	var now map[Partition]*consumer
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{[]string{"ab"}, []string{"a0 a1 a2 b0 b1 b2"}},
		{[]string{"ab", "ab"}, []string{"a0 a1 a2", "b0 b1 b2"}},
		{[]string{"ab", "ab", "ab"}, []string{"a0 a1", "b0 b1", "a2 b2"}},
		{[]string{"ab", "", "ab"}, []string{"a0 a1 b0", "", "a2 b1 b2"}},
		{[]string{"a", "", "ab"}, []string{"a0 a1 a2", "", "b0 b1 b2"}},
		{[]string{"ab", "ab", "ab", "ab"}, []string{"a0 a1", "a2", "b0 b1", "b2"}},
	} {
		now, _ = assigned(assignUniform, []int32{3, 3}, c.words, now, known)
		for i, want := range c.want {
			if p := parts(now, fmt.Sprintf("m%02d", i)); p != want {
				t.Errorf("%v: member %d has %q, want %q", c.words, i, p, want)
			}
		}
	}
}

// However members come, go and change: every partition has one of its readers, no
// member has two partitions more than another that could read one of them, and
// nothing moves without need.
func TestAssignUniformRandom(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		sizes := []int32{random.Int32N(12) + 1, random.Int32N(12) + 1, random.Int32N(40) + 1}
		words := make([]string, random.IntN(12)+1)
		even := seed%2 == 0
		known := map[string]*consumer{}
		var now map[Partition]*consumer
		for range 12 {
			i := random.IntN(len(words))
			if words[i] = []string{"abc", "", "abc", "a", "bc"}[random.IntN(5)]; even && words[i] != "" {
				words[i] = "abc"
			}
			before := now
			after, of := assigned(assignUniform, sizes, words, before, known)
			load := map[*consumer]int{}
			total := 0
			for _, m := range after {
				load[m]++
			}
			for _, topic := range of {
				for i := range topic.partitions {
					m := after[Partition{topic.id, i}]
					if total++; !slices.Contains(topic.members, m) {
						t.Fatalf("seed %d: %v reads what it does not subscribe to", seed, m)
					}
					for _, o := range topic.members {
						if load[m]-load[o] > 1 {
							t.Fatalf("seed %d: %s has %d partitions, %s could take one and has %d", seed, m.id, load[m], o.id, load[o])
						}
					}
				}
			}
			if total != len(after) {
				t.Fatalf("seed %d: %d of %d partitions", seed, len(after), total)
			}
			if even && len(before) > 0 && len(of) > 0 {
				fewest(t, seed, before, after, load)
			}
			now = after
		}
	}
}

// fewest fails if a member both lost and got partitions.
func fewest(t *testing.T, seed uint64, before, after map[Partition]*consumer, load map[*consumer]int) {
	lost, got := map[*consumer]int{}, map[*consumer]int{}
	for p, m := range after {
		if b := before[p]; b != m {
			got[m]++
			if b != nil {
				lost[b]++
			}
		}
	}
	for m := range load {
		if lost[m] > 0 && got[m] > 0 {
			t.Fatalf("seed %d: %s lost %d partitions and got %d", seed, m.id, lost[m], got[m])
		}
	}
}
