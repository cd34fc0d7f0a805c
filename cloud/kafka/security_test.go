package kafka

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
)

// securityExamples are sensible requests about users and ACLs.
func securityExamples() []kmsg.Request {
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Mechanism = Plain
	authenticate := kmsg.NewPtrSASLAuthenticateRequest()
	authenticate.SASLAuthBytes = []byte("\x00ann\x00secret")
	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.ResourceType, describe.Operation, describe.PermissionType, describe.ResourcePatternType = 1, 1, 1, 1
	create := kmsg.NewPtrCreateACLsRequest()
	creation := kmsg.NewCreateACLsRequestCreation()
	creation.ResourceType, creation.ResourceName, creation.ResourcePatternType = kmsg.ACLResourceTypeTopic, "x", kmsg.ACLResourcePatternTypeLiteral
	creation.Principal, creation.Host, creation.Operation, creation.PermissionType = "User:ann", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	create.Creations = append(create.Creations, creation)
	remove := kmsg.NewPtrDeleteACLsRequest()
	filter := kmsg.NewDeleteACLsRequestFilter()
	filter.ResourceType, filter.ResourcePatternType, filter.Operation, filter.PermissionType = 1, 1, 1, 1
	filter.ResourceName = kmsg.StringPtr("x")
	remove.Filters = append(remove.Filters, filter)
	users := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	users.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: "ann"}, {Name: "nobody"}}
	change := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	change.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "new", Mechanism: 1, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32)}}
	change.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "nobody", Mechanism: 2}}
	quotas := kmsg.NewPtrDescribeClientQuotasRequest()
	limit := kmsg.NewPtrAlterClientQuotasRequest()
	limit.ValidateOnly = true
	limit.Entries = []kmsg.AlterClientQuotasRequestEntry{{
		Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: kmsg.StringPtr("ann")}, {Type: "client-id"}},
		Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1e6}, {Key: "consumer_byte_rate", Remove: true}},
	}}
	return []kmsg.Request{handshake, authenticate, describe, create, remove, users, change, quotas, limit}
}

// secured opens a door whose listener has logins, with the users ann, nobody and
// root.
func secured(t testing.TB, o Options, mechanisms ...string) *door {
	t.Helper()
	if o.Listeners == nil {
		o.Listeners = []Listener{{}}
	}
	o.Listeners[0].SASL, o.LoginPause, o.LoginTime = mechanisms, time.Nanosecond, cmp.Or(o.LoginTime, time.Hour)
	if o.Penalties == nil { // no pauses
		o.Penalties = budget.NewPenalties(budget.PenaltiesOptions{First: time.Nanosecond, Longest: time.Nanosecond})
	}
	d := open(t, setup{options: o})
	for _, user := range []string{"ann", "nobody", "root"} {
		for _, m := range auth.Mechanisms() {
			c, err := auth.NewCredential(m, user+"'s secret")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.own.Users.SetCredentials(t.Context(), user, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

func loginAs(user, password string) map[string]sasl.Mechanism {
	s := scram.Auth{User: user, Pass: password}
	return map[string]sasl.Mechanism{
		Plain: plain.Auth{User: user, Pass: password}.AsMechanism(), ScramSHA256: s.AsSha256Mechanism(), ScramSHA512: s.AsSha512Mechanism(),
	}
}

// login logs a connection in, by PLAIN.
func (w *wire) login(user, password string) *kmsg.SASLAuthenticateResponse {
	w.t.Helper()
	if r := ask[*kmsg.SASLHandshakeResponse](w, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: Plain}); r.ErrorCode != 0 {
		w.t.Fatalf("handshake: %+v", r)
	}
	return ask[*kmsg.SASLAuthenticateResponse](w, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("\x00" + user + "\x00" + password)})
}

// as is a connection that has logged in.
func (d *door) as(t testing.TB, user string) *wire {
	t.Helper()
	w := d.dial(t)
	if r := w.login(user, user+"'s secret"); r.ErrorCode != 0 {
		t.Fatalf("login: %+v", r)
	}
	return w
}

func TestLogin(t *testing.T) {
	d := secured(t, Options{}, ScramSHA512, ScramSHA256, Plain)
	for mechanism := range loginAs("", "") {
		t.Run(mechanism, func(t *testing.T) {
			cl := d.client(t, kgo.SASL(loginAs("ann", "ann's secret")[mechanism]), kgo.DefaultProduceTopic("t-"+mechanism))
			if err := cl.ProduceSync(within30s(t), kgo.StringRecord("x")).FirstErr(); err != nil {
				t.Error(err)
			}
			for user, password := range map[string]string{"ann": "other", "eve": "ann's secret", "nobody": "ann's secret"} {
				err := d.client(t, kgo.SASL(loginAs(user, password)[mechanism])).Ping(within30s(t))
				if !errors.Is(err, kerr.SaslAuthenticationFailed) {
					t.Errorf("%s by %q: %v", user, password, err)
				}
			}
		})
	}
}

// TestLoginIsLogged: whose login failed, and never a secret.
func TestLoginIsLogged(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	d := secured(t, Options{Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil))}, Plain)
	w := d.dial(t)
	if r := w.login("ann", "guessed"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code || *r.ErrorMessage != auth.ErrCredentials.Error() {
		t.Errorf("%+v", r)
	}
	w.closed()
	mu.Lock()
	defer mu.Unlock()
	if s := out.String(); !strings.Contains(s, "user=ann") || !strings.Contains(s, "mechanism=PLAIN") || strings.Contains(s, "guessed") {
		t.Errorf("log: %s", s)
	}
}

// Before the login nothing but what it takes is served.
func TestBeforeLogin(t *testing.T) {
	d := secured(t, Options{}, ScramSHA256)
	topic := d.newTopic(t, "a", 1, nil)
	for _, q := range examples(t, topic) {
		a := d.api(q.Key())
		w := d.dial(t)
		q.SetVersion(a.max)
		switch w.send(q); a.key {
		case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
			w.frame()
		default:
			w.closed()
		}
	}
	w := d.dial(t)
	if r := ask[*kmsg.SASLHandshakeResponse](w, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: Plain}); r.ErrorCode != kerr.UnsupportedSaslMechanism.Code || r.SupportedMechanisms[0] != ScramSHA256 {
		t.Errorf("unknown mechanism: %+v", r)
	}
	w.closed()
	w = d.dial(t)
	w.send(&kmsg.SASLHandshakeRequest{Version: 0, Mechanism: ScramSHA256})
	w.closed()
	w = d.dial(t)
	if r := ask[*kmsg.SASLAuthenticateResponse](w, &kmsg.SASLAuthenticateRequest{Version: 2}); r.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("without a handshake: %+v", r)
	}
	w.closed()
	w = d.dial(t)
	_ = ask[*kmsg.SASLHandshakeResponse](w, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: ScramSHA256})
	if r := ask[*kmsg.SASLAuthenticateResponse](w, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("x")}); r.ErrorCode != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("nonsense: %+v", r)
	}
	w.closed()
}

func TestLoginTakesTooLong(t *testing.T) {
	d := secured(t, Options{LoginTime: 30 * time.Millisecond}, Plain)
	d.dial(t).closed()
}

// A login lasts for the listener's time; then only another one of the same user
// is taken (KIP-368).
func TestLoginExpires(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	d := secured(t, Options{Now: clock, Listeners: []Listener{{Reauth: time.Minute}}}, Plain)
	w := d.dial(t)
	if r := w.login("ann", "ann's secret"); r.ErrorCode != 0 || r.SessionLifetimeMillis != 60_000 {
		t.Fatalf("%+v", r)
	}
	later(59 * time.Second)
	_ = ask[*kmsg.MetadataResponse](w, &kmsg.MetadataRequest{Version: 4})
	if r := w.login("ann", "ann's secret"); r.ErrorCode != 0 {
		t.Fatalf("again: %+v", r)
	}
	later(59 * time.Second)
	_ = ask[*kmsg.MetadataResponse](w, &kmsg.MetadataRequest{Version: 4})
	later(2 * time.Second)
	if r := w.login("ann", "ann's secret"); r.ErrorCode != 0 {
		t.Fatalf("after the time: %+v", r)
	}
	if r := w.login("nobody", "nobody's secret"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("as another user: %+v", r)
	}
	w.closed()
	w = d.as(t, "ann")
	later(time.Minute)
	w.send(&kmsg.MetadataRequest{Version: 4})
	w.closed()
}

// A node that does not own the shard knows no passwords: it says nothing of them.
func TestLoginOnStandby(t *testing.T) {
	d := secured(t, Options{}, Plain)
	d.lost.Store(true)
	w := d.dial(t)
	w.send(&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: Plain})
	w.closed()
}

// TestToken: a token of the issuer logs in, for no longer than it is valid.
func TestToken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := bearer.New(bearer.Options{Keys: path, Issuer: "id", Audience: "weir"})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(audience string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: "id", Subject: "ann", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	d := secured(t, Options{Tokens: tokens, Access: authorized()}, OAuthBearer)
	d.lost.Store(true) // a standby, too, can tell a token
	ping := func(a oauth.Auth) error { return d.client(t, kgo.SASL(a.AsMechanism())).Ping(within30s(t)) }
	if err := ping(oauth.Auth{Token: sign("weir"), Zid: "ann"}); err != nil {
		t.Error(err)
	}
	for what, a := range map[string]oauth.Auth{"for others": {Token: sign("other")}, "nonsense": {Token: "x"}, "for bob": {Token: sign("weir"), Zid: "bob"}} {
		if err := ping(a); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w := d.dial(t)
	_ = ask[*kmsg.SASLHandshakeResponse](w, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: OAuthBearer})
	r := ask[*kmsg.SASLAuthenticateResponse](w, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("n,,\x01auth=Bearer " + sign("weir") + "\x01\x01")})
	if left := time.Duration(r.SessionLifetimeMillis) * time.Millisecond; r.ErrorCode != 0 || left > time.Hour || left < 59*time.Minute {
		t.Errorf("%+v", r)
	}
}

// pair makes a CA, and TLS settings of a server and of a client that trust it.
func pair(t *testing.T, client x509.Certificate) (server, user *tls.Config) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := sign(template, template, keys[0], keys[0])
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	node := sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, ca, keys[1], keys[0])
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	who := sign(&client, ca, keys[2], keys[0])
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{node.Raw}, PrivateKey: keys[1]}}, ClientCAs: pool}
	user = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{who.Raw}, PrivateKey: keys[2]}}}
	return server, user
}

func TestTLS(t *testing.T) {
	server, client := pair(t, x509.Certificate{Subject: pkix.Name{CommonName: "ann"}})
	d := secured(t, Options{Listeners: []Listener{{TLS: server}}}, ScramSHA512)
	cl := d.client(t, kgo.DialTLSConfig(client), kgo.SASL(loginAs("ann", "ann's secret")[ScramSHA512]), kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"))
	if err := cl.ProduceSync(within30s(t), kgo.StringRecord(strings.Repeat("x", 100_000))).FirstErr(); err != nil {
		t.Fatal(err)
	}
	poll(t, cl, 1)
	w := d.dial(t) // in the clear
	w.write([]byte{0, 0, 0, 14, 0, 18, 0, 0, 0, 0, 0, 42, 0, 1, 'x', 0, 1, 2})
	if p := make([]byte, 1); true {
		if n, _ := w.br.Read(p); n > 0 && p[0] != 21 { // a TLS alert
			t.Errorf("answer in the clear: %x", p)
		}
	}
}

// The name in a client certificate is the name of the client.
func TestClientCertificates(t *testing.T) {
	uri, err := url.Parse("spiffe://plant/ann")
	if err != nil {
		t.Fatal(err)
	}
	for want, certificate := range map[string]x509.Certificate{
		"User:ann":                {Subject: pkix.Name{CommonName: "ann", Organization: []string{"o"}}, DNSNames: []string{"b"}},
		"User:b":                  {DNSNames: []string{"b", "c"}},
		"User:spiffe://plant/ann": {URIs: []*url.URL{uri}},
		"":                        {},
	} {
		server, client := pair(t, certificate)
		server.ClientAuth = tls.RequireAndVerifyClientCert
		d := open(t, setup{options: Options{Listeners: []Listener{{TLS: server}}, Access: authorized()}})
		if want != "" {
			acl := auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Prefixed, Name: "t"},
				Rule: auth.Rule{Principal: want, Host: "127.0.0.1", Operation: auth.All, Permission: auth.Allow}}
			if err := d.own.Users.AddACLs(t.Context(), acl); err != nil {
				t.Fatal(err)
			}
		}
		produce := func(topic string) error {
			cl := d.client(t, kgo.DialTLSConfig(client))
			return cl.ProduceSync(within30s(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
		}
		bare := client.Clone()
		bare.Certificates = nil
		d.turnedAway(t, bare)
		if want == "" {
			d.turnedAway(t, client)
			continue
		}
		if err := produce("t1"); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if err := produce("x"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("%s, to another topic: %v", want, err)
		}
	}
}

// turnedAway checks that a TLS client gets no answer.
func (d *door) turnedAway(t *testing.T, c *tls.Config) {
	t.Helper()
	nc, err := tls.Dial("tcp", d.addr, c)
	if err != nil {
		return
	}
	defer nc.Close()
	_, _ = nc.Write([]byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 42, 0xff, 0xff})
	if n, err := nc.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes are answered to a client without a name", n)
	}
}

// A client of a listener is sent to the owner's listener of that name.
func TestListeners(t *testing.T) {
	owner := broker.Node{ID: 7, Name: "a", Addresses: cluster.Addresses{cluster.Kafka: {"": "in:1", "in": "in:1", "out": "out:2"}}}
	b := broker.New(broker.Options{Self: broker.Node{ID: 8, Name: "b"}})
	b.Follow(0, owner, "cluster")
	names := []string{"in", "out", "other"}
	var o Options
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listeners = append(o.Listeners, Listener{Listener: l, Name: name})
	}
	d := serve(t, o, access.Options{}, o.Listeners[0].Listener, b)
	t.Cleanup(func() { _ = d.Close() })
	for i, want := range []string{"in", "out", ""} {
		d.addr = o.Listeners[i].Addr().String()
		w := d.dial(t)
		r := ask[*kmsg.MetadataResponse](w, &kmsg.MetadataRequest{Version: 4})
		c := ask[*kmsg.FindCoordinatorResponse](w, &kmsg.FindCoordinatorRequest{Version: 3, CoordinatorKey: "g"})
		switch {
		case want == "":
			if len(r.Brokers) != 0 || c.ErrorCode != kerr.CoordinatorNotAvailable.Code {
				t.Errorf("%s: %+v, %+v", names[i], r.Brokers, c)
			}
		case len(r.Brokers) != 1 || r.Brokers[0].Host != want || r.Brokers[0].Port != int32(i+1) || c.Host != want:
			t.Errorf("%s: %+v, %+v", names[i], r.Brokers, c)
		}
	}
}

// A user that is deleted, or gets another password, is no longer connected; others
// are.
func TestChangedUserIsDropped(t *testing.T) {
	d := secured(t, Options{}, ScramSHA512, ScramSHA256, Plain)
	for _, mechanism := range []string{ScramSHA512, Plain} {
		ann, other := d.dial(t), d.dial(t)
		cl := d.client(t, kgo.SASL(loginAs("root", "root's secret")[mechanism]))
		if err := cl.Ping(within30s(t)); err != nil {
			t.Fatal(err)
		}
		if r := ann.login("ann", "ann's secret"); r.ErrorCode != 0 {
			t.Fatalf("%+v", r)
		}
		if r := other.login("nobody", "nobody's secret"); r.ErrorCode != 0 {
			t.Fatalf("%+v", r)
		}
		c, err := auth.NewCredential(auth.SCRAMSHA512, "ann's secret")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.own.Users.SetCredentials(t.Context(), "ann", c); err != nil {
			t.Fatal(err)
		}
		ann.closed()
		_ = ask[*kmsg.MetadataResponse](other, &kmsg.MetadataRequest{Version: 4})
	}
	cl := d.client(t, kgo.SASL(loginAs("root", "root's secret")[ScramSHA512]))
	if err := cl.Ping(within30s(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.own.Users.RemoveUser(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return errors.Is(cl.Ping(ctx), kerr.SaslAuthenticationFailed)
	})
}
