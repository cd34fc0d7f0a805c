package declaration

import (
	"fmt"
	"math"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// Properties returns an error if a message of a user must not have such properties.
// Errors: *wire.Error.
func Properties(p *wire.Properties, user string) error {
	if p.Flags&wire.HasUserID != 0 && p.UserID != user {
		return refused(wire.PreconditionFailed, "user_id property set to '%s' but authenticated user was '%s'", p.UserID, user)
	}
	if p.Flags&wire.HasExpiration != 0 {
		if reason := checkExpiration(p.Expiration); reason != "" {
			return refused(wire.PreconditionFailed, "invalid expiration '%s': %s", p.Expiration, reason)
		}
	}
	if p.Flags&wire.HasHeaders == 0 {
		return nil
	}
	for _, name := range []string{"CC", "BCC"} {
		if v := p.Headers.Lookup(name); v.Exists() && v.Kind() != wire.KindArray {
			return refused(wire.PreconditionFailed, "invalid message: {unacceptable_type_in_header,\"%s\",%v}", name, v.Kind())
		}
	}
	return nil
}

// checkExpiration returns what is wrong with the property expiration, in RabbitMQ's words.
func checkExpiration(text string) string {
	digits := strings.TrimLeft(text, "+-")
	sign := text[:len(text)-len(digits)]
	end := 0
	for end < len(digits) && digits[end] >= '0' && digits[end] <= '9' {
		end++
	}
	if end == 0 || len(sign) > 1 {
		return "no_integer"
	}
	if rest := digits[end:]; rest != "" {
		return fmt.Sprintf("{leftover_string,%q}", rest)
	}
	n := int64(0)
	for _, d := range digits {
		if n = 10*n + int64(d-'0'); n > maxMillis {
			n = math.MaxInt64/10 - 9 // too large, whatever follows
		}
	}
	switch {
	case sign == "-" && n > 0:
		return fmt.Sprintf("{value_negative,%s}", text)
	case n > maxMillis:
		return fmt.Sprintf("{value_too_big,%s}", digits)
	}
	return ""
}

// Hide removes what a consumer must not see: the header BCC.
func Hide(p *wire.Properties) {
	const bcc = "BCC"
	if !p.Headers.Lookup(bcc).Exists() {
		return
	}
	var b wire.Builder
	for name, v := range p.Headers.All() {
		if name != bcc {
			b.Add(name, v)
		}
	}
	next, err := b.Table()
	if err != nil { // impossible: it was a table before
		next = wire.Table{}
	}
	if p.Headers = next; len(next.Raw()) == 0 {
		p.Flags &^= wire.HasHeaders
	}
}
