package model

// patience is the number of steps that a node may take alone.
const patience = 100

// judgeLive checks that recovery ends once there are no more faults: each node that is at
// work comes to an end alone, and after that a new claim makes an owner that
// has everything that was acknowledged.
func (w *world) judgeLive(s *state) faults {
	for i := range s.nodes {
		if n := s.nodes[i].stage; n == idle || n == owning || n == following || n == doubting {
			continue
		}
		alone := *s
		if f := w.finish(&alone, i); f != sound {
			return f
		}
		if f := w.freshClaim(&alone); f != sound {
			return f
		}
	}
	alone := *s
	return w.freshClaim(&alone)
}

// finish runs one node alone until it is idle or an owner.
func (w *world) finish(s *state, i int) faults {
	for range patience {
		_, f, ok := w.advance(s, i)
		if f != sound {
			return f
		}
		if !ok {
			return w.judge(s)
		}
	}
	return stuck
}

// freshClaim lets a node claim and recover while no other node takes a step.
func (w *world) freshClaim(s *state) faults {
	s.claims++
	s.nodes[0] = node{stage: listing, epoch: s.claims, start: origin, at: origin}
	if f := w.finish(s, 0); f != sound {
		return f
	}
	if s.nodes[0].stage != owning {
		return stuck
	}
	return sound
}
