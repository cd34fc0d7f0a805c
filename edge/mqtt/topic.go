package mqtt

import "strings"

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

// reserved reports whether the topic belongs to the server: clients may not publish there, except
// bridges that report their state.
func reserved(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return first == "$SYS" || first == "$share"
}

// system reports whether messages of the topic belong to this broker alone: they are not given to
// the Backend, and are retained in memory only.
func system(topic string) bool { return strings.HasPrefix(topic, "$SYS/") }
