package mqtt

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Errors of this package. A Backend or an authenticator returns them to say what the
// client is to be told.
var (
	// ErrFull: there is no room for the message now. MQTT 5: 0x97. 3.x: no
	// acknowledgement, and the connection is closed.
	ErrFull = errors.New("no room for the message")

	// ErrNotAllowed: this client may not do that. MQTT 5: 0x87. 3.x: CONNACK
	// code 5, SUBACK 0x80, and a PUBLISH is acknowledged and dropped.
	ErrNotAllowed = errors.New("not allowed")

	// ErrName: no message of this topic will ever be accepted. MQTT 5: 0x90. 3.x:
	// acknowledged as a refused letter.
	ErrName = errors.New("topic name is not allowed")

	// ErrTooLarge: the message will never fit. MQTT 5: 0x83. 3.x: acknowledged
	// as a refused letter.
	ErrTooLarge = errors.New("message is too large")

	// ErrBadCredentials: user name or password is wrong. MQTT 5: 0x86. 3.x:
	// CONNACK code 4.
	ErrBadCredentials = errors.New("bad user name or password")

	// ErrClosed: the server or store is closed.
	ErrClosed = errors.New("closed")

	// ErrFormat: the state file was written by a newer version.
	ErrFormat = errors.New("state file has a newer format")

	// ErrPoisoned: an earlier write of the state file failed, so it is unknown what the
	// file ends with. A successful Rewrite clears the error.
	ErrPoisoned = errors.New("state file is closed after a write error")
)

// errNotStored marks work whose batch did not become durable.
var errNotStored = errors.New("not durable")

// publishReason returns the MQTT 5 reason code of a PUBACK or PUBREC for a message that
// the Backend refused.
func publishReason(err error) packets.Code {
	switch {
	case errors.Is(err, ErrFull):
		return packets.ErrQuotaExceeded
	case errors.Is(err, ErrNotAllowed):
		return packets.ErrNotAuthorized
	case errors.Is(err, ErrName):
		return packets.Code{Code: packets.ErrTopicNameInvalid.Code, Reason: err.Error()}
	case errors.Is(err, ErrTooLarge):
		return packets.Code{Code: packets.ErrImplementationSpecificError.Code, Reason: err.Error()}
	default:
		return packets.ErrImplementationSpecificError
	}
}

// connectReason returns the MQTT 5 reason code of a CONNACK for an authenticator's error.
func connectReason(err error) packets.Code {
	switch {
	case errors.Is(err, ErrBadCredentials):
		return packets.ErrBadUsernameOrPassword
	case errors.Is(err, ErrNotAllowed):
		return packets.ErrNotAuthorized
	default:
		return packets.ErrServerUnavailable
	}
}

// connackCode returns the return code of MQTT 3.x §3.2.2.3 for a reason code. It reports
// false if 3.x has none: then the connection is closed without a CONNACK [MQTT-3.2.2-6].
func connackCode(reason packets.Code) (byte, bool) {
	switch reason.Code {
	case packets.CodeSuccess.Code:
		return 0, true
	case packets.ErrUnsupportedProtocolVersion.Code:
		return 1, true
	case packets.ErrClientIdentifierNotValid.Code:
		return 2, true
	case packets.ErrServerUnavailable.Code, packets.ErrServerBusy.Code,
		packets.ErrServerShuttingDown.Code, packets.ErrQuotaExceeded.Code:
		return 3, true
	case packets.ErrBadUsernameOrPassword.Code:
		return 4, true
	case packets.ErrNotAuthorized.Code:
		return 5, true
	default:
		return 0, false
	}
}

// protocolError returns the code to send for an error of the codec. The codec calls a
// property that does not belong into its packet a protocol violation; the standard calls
// it malformed (§2.2.2.2).
func protocolError(err error) packets.Code {
	var code packets.Code
	if !errors.As(err, &code) || code == packets.ErrProtocolViolationUnsupportedProperty {
		return packets.ErrMalformedPacket
	}
	return code
}
