package mqtt

import "strings"

// validTopic reports whether a PUBLISH or will may use the name (§4.7): not
// empty, no wildcards, no more levels than allowed. The codec has checked
// that it is UTF-8 without U+0000.
func validTopic(name string, maxLevels int) bool {
	return name != "" && !strings.ContainsAny(name, "+#") && levels(name) <= maxLevels
}

// validFilter reports whether a topic filter is well formed (§4.7.1): `+` and
// `#` fill a whole level, `#` is the last one.
func validFilter(filter string, maxLevels int) bool {
	if filter == "" || levels(filter) > maxLevels {
		return false
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#":
			return !more
		case level == "+":
		case strings.ContainsAny(level, "+#"):
			return false
		}
	}
	return true
}

// shareName splits $share/NAME/FILTER [MQTT-4.8.2-1]. For an ordinary filter
// it returns "" and the filter; ok is false when a shared one is malformed.
func shareName(full string) (share, filter string, ok bool) {
	rest, shared := strings.CutPrefix(full, "$share/")
	if !shared {
		return "", full, full != "$share"
	}
	share, filter, ok = strings.Cut(rest, "/")
	ok = ok && share != "" && filter != "" && !strings.ContainsAny(share, "+#")
	return share, filter, ok
}

func levels(name string) int { return 1 + strings.Count(name, "/") }

// dollar reports whether a leading wildcard does not match the topic
// [MQTT-4.7.2-1].
func dollar(topic string) bool { return strings.HasPrefix(topic, "$") }

// reserved reports whether the topic belongs to the server: no client may
// publish there.
func reserved(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return first == "$SYS" || first == "$share"
}
