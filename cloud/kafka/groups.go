package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
)

// text returns the value of a nullable string, "" for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullable is the inverse of text.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return kmsg.StringPtr(s)
}

func identity(member string, instance *string) group.Identity {
	return group.Identity{Member: member, Instance: text(instance)}
}
