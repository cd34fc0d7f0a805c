package main

import (
	"io"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud"
)

func TestLimits(t *testing.T) {
	s, err := parse(nil, nil, io.Discard)
	if err != nil || s.limits != cloud.DefaultLimits() {
		t.Errorf("%v, %+v", err, s.limits)
	}
	for args, want := range map[string]string{
		"--max-connections 0":                              "--max-connections 0 is less than 1",
		"--max-connections 100":                            "--listener-connections 2048 is more",
		"--listener-connections 10":                        "--address-connections 1024 is more",
		"--request-memory 1000":                            "--request-memory 1000 is not between 24 MiB and 1 TiB",
		"--answer-memory 1000":                             "--answer-memory 1000 is not between 24 MiB and 1 TiB",
		"--sync-memory 1000":                               "--sync-memory 1000 is not between 24 MiB and 1 TiB",
		"--max-gateways 0":                                 "--max-gateways 0 is less than 1",
		"--listener-connections 9 --address-connections 9": "",
	} {
		_, err := parse(strings.Fields(args), nil, io.Discard)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
