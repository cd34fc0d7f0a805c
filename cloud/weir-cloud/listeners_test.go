package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
)

func TestListeners(t *testing.T) {
	scram := []string{login.ScramSHA512, login.ScramSHA256}
	for _, c := range []struct {
		flags string
		want  []listener.Settings
		wrong string
	}{
		{"", []listener.Settings{{Name: "default", Listen: "127.0.0.1:9092"}}, ""},
		{"--kafka off", nil, ""},
		{"--kafka off --kafka localhost:1", []listener.Settings{{Name: "default", Listen: "localhost:1"}}, ""},
		{"--kafka listen=localhost:1,route=here --kafka name=b,listen=localhost:2,route=owners", []listener.Settings{
			{Name: "default", Listen: "localhost:1", Here: true}, {Name: "b", Listen: "localhost:2"}}, ""},
		{"--kafka listen=localhost:1,route=there", nil, "there are owners and here"},
		{"--kafka localhost:1 --kafka name=b,listen=:2,sasl=scram,reauth=1h", []listener.Settings{
			{Name: "default", Listen: "localhost:1"}, {Name: "b", Listen: ":2", SASL: scram, Reauth: time.Hour}}, ""},
		{"--kafka listen=:2,advertise=a:3,tls-cert=c,tls-key=k,client-ca=a,sasl=plain,SCRAM-SHA-256", []listener.Settings{
			{Name: "default", Listen: ":2", Advertise: "a:3", TLSCert: "c", TLSKey: "k", ClientCA: "a", SASL: []string{login.Plain, login.ScramSHA256}}}, ""},
		{"--kafka :1", nil, "--kafka-anonymous"},
		{"--kafka :1 --kafka-anonymous", []listener.Settings{{Name: "default", Listen: ":1"}}, ""},
		{"--kafka localhost:1 --kafka localhost:2", nil, "give each a name"},
		{"--kafka name=a", nil, "needs an address"},
		{"--kafka listen=:1,tls-cert=x", nil, "set together"},
		{"--kafka listen=:1,client-ca=x", nil, "client-ca needs tls-cert"},
		{"--kafka lisen=:1", nil, "did you mean listen?"},
		{"--kafka listen=:1,listen=:2", nil, "twice"},
		{"--kafka listen=:1,x", nil, "neither"},
		{"--kafka listen=:1,sasl=gssapi", nil, "there are scram"},
		{"--kafka listen=:1,sasl=scram,reauth=x", nil, "not a time span"},
		{"--kafka listen=:1,sasl=plain", nil, "needs tls-cert"},
		{"--kafka listen=localhost:1,sasl=plain", []listener.Settings{{Name: "default", Listen: "localhost:1", SASL: []string{login.Plain}}}, ""},
		{"--kafka listen=localhost:1,sasl=oauthbearer", nil, "--kafka-oauth-keys"},
		{"--kafka-oauth-keys x", nil, "set together"},
	} {
		s, err := parse(strings.Fields(c.flags), nil, io.Discard)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v", c.flags, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.flags, err)
			continue
		}
		if got, err := s.listeners(); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.flags, got, err)
		}
	}
}

func TestAMQPListeners(t *testing.T) {
	plain := []string{login.Plain}
	for _, c := range []struct {
		flags string
		want  []listener.Settings
		wrong string
	}{
		{"", nil, ""},
		{"--amqp localhost:1", []listener.Settings{{Name: "default", Listen: "localhost:1", SASL: plain, Guests: true}}, ""},
		{"--amqp localhost:1 --amqp off", nil, ""},
		{"--amqp listen=localhost:1,sasl=plain", []listener.Settings{{Name: "default", Listen: "localhost:1", SASL: plain}}, ""},
		{"--amqp listen=:1,tls-cert=c,tls-key=k,client-ca=a", []listener.Settings{
			{Name: "default", Listen: ":1", TLSCert: "c", TLSKey: "k", ClientCA: "a", SASL: []string{login.External}}}, ""},
		{"--amqp :1", nil, "--amqp-anonymous"},
		{"--amqp :1 --amqp-anonymous", []listener.Settings{{Name: "default", Listen: ":1", SASL: plain, Anonymous: true}}, ""},
		{"--amqp listen=:1,sasl=plain", nil, "needs tls-cert"},
		{"--amqp listen=localhost:1,sasl=scram", nil, "log in by plain"},
		{"--amqp localhost:1 --amqp localhost:2", nil, "give each a name"},
	} {
		checkListeners(t, c.flags, settings.amqpListeners, c.want, c.wrong)
	}
}

func TestManagementListeners(t *testing.T) {
	plain := []string{login.Plain}
	for _, c := range []struct {
		flags string
		want  []listener.Settings
		wrong string
	}{
		{"", nil, ""},
		{"--management localhost:1", []listener.Settings{{Name: "default", Listen: "localhost:1", SASL: plain, Guests: true}}, ""},
		{"--management localhost:1 --management off", nil, ""},
		{"--management listen=localhost:1,sasl=plain", []listener.Settings{{Name: "default", Listen: "localhost:1", SASL: plain}}, ""},
		{"--management listen=:1,tls-cert=c,tls-key=k,client-ca=a", []listener.Settings{
			{Name: "default", Listen: ":1", TLSCert: "c", TLSKey: "k", ClientCA: "a", SASL: plain}}, ""},
		{"--management :1", nil, "needs tls-cert"},
		{"--management listen=localhost:1,sasl=scram", nil, "log in by plain"},
		{"--management localhost:1 --management localhost:2", nil, "give each a name"},
	} {
		checkListeners(t, c.flags, settings.managementListeners, c.want, c.wrong)
	}
}

// checkListeners fails the test unless flags give these listeners, or an error with these
// words.
func checkListeners(t *testing.T, flags string, of func(settings) ([]listener.Settings, error), want []listener.Settings, wrong string) {
	t.Helper()
	var got []listener.Settings
	s, err := parse(strings.Fields(flags), nil, io.Discard)
	if err == nil {
		got, err = of(s)
	}
	if wrong != "" {
		if err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", flags, err)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, %v", flags, got, err)
	}
}

// What can be said with flags can be said in the file, and in a variable.
func TestListenersElsewhere(t *testing.T) {
	want := []listener.Settings{{Name: "default", Listen: "localhost:1"}, {Name: "b", Listen: ":2", SASL: []string{login.ScramSHA512, login.ScramSHA256}}}
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("kafka:\n  - localhost:1\n  - name: b\n    listen: \":2\"\n    sasl: [scram-sha-512, scram-sha-256]\nkafka-super-users: [a, User:b]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, how := range map[string]struct{ args, environ []string }{
		"file":     {[]string{"--config", file}, nil},
		"variable": {nil, []string{"WEIR_CLOUD_KAFKA=localhost:1;name=b,listen=:2,sasl=scram", "WEIR_CLOUD_KAFKA_SUPER_USERS=a,User:b"}},
	} {
		s, err := parse(how.args, how.environ, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got, err := s.listeners(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		if got := principals(s.superUsers); !reflect.DeepEqual(got, []string{"User:a", "User:b"}) {
			t.Errorf("%s: %v", what, got)
		}
	}
}
