package wire

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

var (
	// ErrTooLong says that a short string of a method or property that was to be written
	// has more than MaxShortString bytes.
	ErrTooLong = errors.New("short string of more than 255 bytes")
	// ErrTooLarge says that a method or content header that was to be written does not
	// fit in a frame.
	ErrTooLarge = errors.New("larger than the frame-max")
)

// Error is a mistake of the peer, and the answer that it gets.
type Error struct {
	Code   Code
	Text   string   // what follows the code's name in the reply text
	Method MethodID // that it was made in; 0 if it was in none
}

// Error returns the whole explanation.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.String()
	}
	return e.Code.String() + " - " + e.Text
}

// ReplyText returns the explanation in at most 255 bytes. A longer one ends with "...",
// as with RabbitMQ, but not inside a character.
func (e *Error) ReplyText() string {
	text := e.Error()
	if len(text) <= MaxShortString {
		return text
	}
	end := MaxShortString - 3
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// Close returns the method that answers the mistake, and the channel that it is sent on:
// a ConnectionClose on channel 0 if the code is hard or the mistake was made on channel 0,
// else a ChannelClose.
func (e *Error) Close(channel uint16) (uint16, Method) {
	class, method := e.Method.Class(), e.Method.Method()
	if e.Code.Hard() || channel == 0 {
		return 0, &ConnectionClose{ReplyCode: uint16(e.Code), ReplyText: e.ReplyText(), ClassID: class, MethodID: method}
	}
	return channel, &ChannelClose{ReplyCode: uint16(e.Code), ReplyText: e.ReplyText(), ClassID: class, MethodID: method}
}

func failed(code Code, id MethodID, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...), Method: id}
}

func tooLong(id MethodID) error { return fmt.Errorf("%v: %w", id, ErrTooLong) }

// badFrame is RabbitMQ's text for a frame that cannot be one.
func badFrame(code Code, f Frame, reason string) *Error {
	which, payload := "all", f.Payload
	if len(payload) > 16 {
		which, payload = "first 16", payload[:16]
	}
	if reason != "" {
		reason = ": " + reason
	}
	return failed(code, 0, "type %d, %s octets = %s%s", f.Type, which, appendBinary(nil, payload), reason)
}

// appendBinary appends p in the notation of RabbitMQ's texts: <<"text">> or <<1,2,3>>.
func appendBinary(b, p []byte) []byte {
	printable := len(p) > 0
	for _, c := range p {
		printable = printable && c >= ' ' && c < 0x7f
	}
	if !printable {
		return appendOctets(b, p)
	}
	b = append(b, "<<"...)
	b = strconv.AppendQuote(b, string(p))
	return append(b, ">>"...)
}

func appendOctets(b, p []byte) []byte {
	b = append(b, "<<"...)
	for i, c := range p {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(c), 10)
	}
	return append(b, ">>"...)
}
