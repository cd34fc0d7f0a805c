package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Tables in JSON are as in RabbitMQ's management API. The types of numbers, strings and
// times are lost on the way there; on the way back an integer is of 64 bits.

// MarshalJSON writes an object. Of several values of one name it has the first.
func (t Table) MarshalJSON() ([]byte, error) {
	all := make(map[string]Value)
	for name, v := range t.All() {
		if _, twice := all[name]; !twice {
			all[name] = v
		}
	}
	return json.Marshal(all)
}

// MarshalJSON writes an array.
func (a Array) MarshalJSON() ([]byte, error) {
	all := []Value{}
	for v := range a.All() {
		all = append(all, v)
	}
	return json.Marshal(all)
}

// MarshalJSON writes the value; none is null.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind() {
	case KindBool:
		set, _ := v.Bool()
		return json.Marshal(set)
	case KindTimestamp:
		n, _ := v.Timestamp()
		return json.Marshal(n)
	case KindFloat, KindDouble:
		f, _ := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) { // JSON has no such numbers
			return json.Marshal(strconv.FormatFloat(f, 'g', -1, 64))
		}
		return json.Marshal(f)
	case KindDecimal:
		scale, n, _ := v.Decimal()
		return json.Marshal(float64(n) / math.Pow10(int(scale)))
	case KindString, KindBytes:
		p, _ := v.Bytes()
		if !utf8.Valid(p) {
			return json.Marshal("Not UTF-8, base64 is: " + base64.StdEncoding.EncodeToString(p))
		}
		return json.Marshal(string(p))
	case KindTable:
		t, _ := v.Table()
		return t.MarshalJSON()
	case KindArray:
		a, _ := v.Array()
		return a.MarshalJSON()
	}
	if n, ok := v.Int(); ok {
		return json.Marshal(n)
	}
	return []byte("null"), nil
}

// errJSON means that a value of JSON has no place in a table.
var errJSON = errors.New("not a field table")

// UnmarshalJSON reads an object. The names of the table are in order.
func (t *Table) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return fmt.Errorf("%w: %w", errJSON, err)
	}
	next, err := tableOf(all)
	if err == nil {
		*t = next
	}
	return err
}

func tableOf(all map[string]any) (Table, error) {
	var b Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, err := valueOf(all[name])
		if err != nil {
			return Table{}, fmt.Errorf("%.40q: %w", name, err)
		}
		b.Add(name, v)
	}
	return b.Table()
}

// valueOf makes a value from one that encoding/json has decoded, with its numbers as text.
func valueOf(x any) (Value, error) {
	switch x := x.(type) {
	case nil:
		return Void(), nil
	case bool:
		return Bool(x), nil
	case string:
		return Text(x), nil
	case json.Number:
		if n, err := strconv.ParseInt(x.String(), 10, 64); err == nil {
			return Int64(n), nil
		}
		f, err := x.Float64()
		if err != nil {
			return Value{}, fmt.Errorf("%w: %w", errJSON, err)
		}
		return Double(f), nil
	case map[string]any:
		t, err := tableOf(x)
		return Nested(t), err
	case []any:
		values := make([]Value, len(x))
		for i := range x {
			var err error
			if values[i], err = valueOf(x[i]); err != nil {
				return Value{}, err
			}
		}
		return List(values...), nil
	}
	return Value{}, fmt.Errorf("%w: %T", errJSON, x)
}

// propertiesJSON is Properties in JSON. What is nil is not there.
type propertiesJSON struct {
	ContentType     *string `json:"content_type,omitempty"`
	ContentEncoding *string `json:"content_encoding,omitempty"`
	Headers         *Table  `json:"headers,omitempty"`
	DeliveryMode    *uint8  `json:"delivery_mode,omitempty"`
	Priority        *uint8  `json:"priority,omitempty"`
	CorrelationID   *string `json:"correlation_id,omitempty"`
	ReplyTo         *string `json:"reply_to,omitempty"`
	Expiration      *string `json:"expiration,omitempty"`
	MessageID       *string `json:"message_id,omitempty"`
	Timestamp       *uint64 `json:"timestamp,omitempty"`
	Type            *string `json:"type,omitempty"`
	UserID          *string `json:"user_id,omitempty"`
	AppID           *string `json:"app_id,omitempty"`
	ClusterID       *string `json:"cluster_id,omitempty"`
}

// given sets a property, or does not if it is not there.
func given[T any](p *Properties, flag PropertyFlags, from *T, into *T) {
	if from != nil {
		*into = *from
		p.Flags |= flag
	}
}

// shown returns a property, nil if it is not there.
func shown[T any](p *Properties, flag PropertyFlags, value T) *T {
	if p.Flags&flag == 0 {
		return nil
	}
	return &value
}

// MarshalJSON writes an object of the properties that are there.
func (p *Properties) MarshalJSON() ([]byte, error) {
	return json.Marshal(propertiesJSON{
		ContentType: shown(p, HasContentType, p.ContentType), ContentEncoding: shown(p, HasContentEncoding, p.ContentEncoding),
		Headers: shown(p, HasHeaders, p.Headers), DeliveryMode: shown(p, HasDeliveryMode, p.DeliveryMode),
		Priority: shown(p, HasPriority, p.Priority), CorrelationID: shown(p, HasCorrelationID, p.CorrelationID),
		ReplyTo: shown(p, HasReplyTo, p.ReplyTo), Expiration: shown(p, HasExpiration, p.Expiration),
		MessageID: shown(p, HasMessageID, p.MessageID), Timestamp: shown(p, HasTimestamp, p.Timestamp),
		Type: shown(p, HasType, p.Type), UserID: shown(p, HasUserID, p.UserID),
		AppID: shown(p, HasAppID, p.AppID), ClusterID: shown(p, HasClusterID, p.ClusterID),
	})
}

// UnmarshalJSON reads an object of properties. Those that it does not know are left out.
func (p *Properties) UnmarshalJSON(text []byte) error {
	var j propertiesJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*p = Properties{}
	given(p, HasContentType, j.ContentType, &p.ContentType)
	given(p, HasContentEncoding, j.ContentEncoding, &p.ContentEncoding)
	given(p, HasHeaders, j.Headers, &p.Headers)
	given(p, HasDeliveryMode, j.DeliveryMode, &p.DeliveryMode)
	given(p, HasPriority, j.Priority, &p.Priority)
	given(p, HasCorrelationID, j.CorrelationID, &p.CorrelationID)
	given(p, HasReplyTo, j.ReplyTo, &p.ReplyTo)
	given(p, HasExpiration, j.Expiration, &p.Expiration)
	given(p, HasMessageID, j.MessageID, &p.MessageID)
	given(p, HasTimestamp, j.Timestamp, &p.Timestamp)
	given(p, HasType, j.Type, &p.Type)
	given(p, HasUserID, j.UserID, &p.UserID)
	given(p, HasAppID, j.AppID, &p.AppID)
	given(p, HasClusterID, j.ClusterID, &p.ClusterID)
	return nil
}
