package amqp091

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/storage/mem"
)

// dialAs connects RabbitMQ's Go client, and says whether it could open the vhost.
func (d *door) dialAs(scheme string, by amqp.Authentication, t *tls.Config) bool {
	d.t.Helper()
	c, err := amqp.DialConfig(scheme+"://"+d.addr+"/", amqp.Config{SASL: []amqp.Authentication{by}, TLSClientConfig: t, Dial: amqp.DefaultDial(20 * time.Second)})
	if err != nil {
		return false
	}
	if err := c.Close(); err != nil {
		d.t.Error(err)
	}
	return true
}

// TestServerProperties: clients find RabbitMQ's product and version, from which they
// conclude what the server does, and can see which broker it is.
func TestServerProperties(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), func(o *Options) { o.Version = "1.2.3" })
	properties := d.client("guest").Properties
	for name, want := range map[string]string{"product": "RabbitMQ", "version": "3.10.8", "platform": "Weir 1.2.3", "information": "Weir speaks the dialect of RabbitMQ 3.10.8"} {
		if got, ok := properties[name].(string); !ok || got != want {
			t.Errorf("%s is %v, not %q", name, properties[name], want)
		}
	}
}

// permitted gives a user all permissions in the default vhost.
func (d *door) permitted(user string) {
	d.t.Helper()
	if err := d.users.SetVhostPermissions(d.t.Context(), auth.VhostPermissions{User: user, Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"}); err != nil {
		d.t.Fatal(err)
	}
}

// TestPasswords: PLAIN and AMQPLAIN check the same passwords, and guest has none once there
// are users.
func TestPasswords(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	guest, plainGuest := &amqp.AMQPlainAuth{Username: "guest", Password: "guest"}, &amqp.PlainAuth{Username: "guest", Password: "guest"}
	if !d.dialAs("amqp", guest, nil) || !d.dialAs("amqp", plainGuest, nil) {
		t.Error("guest is refused while there are no users")
	}
	c, err := auth.NewCredential(auth.SCRAMSHA512, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.users.SetCredentials(t.Context(), "ann", c); err != nil {
		t.Fatal(err)
	}
	d.permitted("ann")
	d.permitted("guest")
	if !d.dialAs("amqp", &amqp.AMQPlainAuth{Username: "ann", Password: "secret"}, nil) || !d.dialAs("amqp", &amqp.PlainAuth{Username: "ann", Password: "secret"}, nil) {
		t.Error("a user is refused")
	}
	if d.dialAs("amqp", guest, nil) || d.dialAs("amqp", &amqp.PlainAuth{Username: "ann", Password: "guest"}, nil) {
		t.Error("guest comes in although there are users, or a wrong password does")
	}
}

// TestConsumerOfRevokedUser: a consumer gets nothing more once its user may not read the
// queue, and the client is told; what it has had it can still settle.
func TestConsumerOfRevokedUser(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	for _, user := range []string{"ann", "bob"} {
		c, err := auth.NewCredential(auth.SCRAMSHA256, user)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.users.SetCredentials(t.Context(), user, c); err != nil {
			t.Fatal(err)
		}
		d.permitted(user)
	}
	bobs, anns := d.channel(d.client("bob")), d.channel(d.client("ann"))
	declareQueue(t, bobs, "q", nil)
	told := anns.NotifyCancel(make(chan string, 1))
	deliveries, err := anns.Consume("q", "c", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, bobs, "q", "a")
	got := next(t, deliveries)
	if string(got.Body) != "a" {
		t.Errorf("got %q", got.Body)
	}
	if err := d.users.SetVhostPermissions(t.Context(), auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: ".*", Read: "^own"}); err != nil {
		t.Fatal(err)
	}
	publish(t, bobs, "q", "b")
	if tag := <-told; tag != "c" {
		t.Errorf("told about consumer %q", tag)
	}
	if err := got.Ack(false); err != nil {
		t.Error(err)
	}
	if _, more := <-deliveries; more {
		t.Error("it got another message")
	}
	if next, ok, err := bobs.Get("q", true); err != nil || !ok || string(next.Body) != "b" || next.Redelivered {
		t.Errorf("left in the queue: %q, %v, %v", next.Body, ok, err)
	}
}

// TestCertificates: by EXTERNAL a client is who its certificate says, and needs permissions
// under that name.
func TestCertificates(t *testing.T) {
	server, pool := signed(t, "node")
	ann, _ := signed(t, "ann")
	accepted := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert}
	d := openDoor(t, mem.New(), func(o *Options) {
		l := &o.Listeners[0]
		l.TLS, l.SASL, l.Guests = accepted, []string{login.External}, false
	})
	mine := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ann}}
	if d.dialAs("amqps", &amqp.ExternalAuth{}, mine) {
		t.Error("a certificate without permissions opens the vhost")
	}
	d.permitted("ann")
	if !d.dialAs("amqps", &amqp.ExternalAuth{}, mine) {
		t.Error("a certificate with permissions is refused")
	}
	if d.dialAs("amqps", &amqp.PlainAuth{Username: "guest", Password: "guest"}, mine) || d.dialAs("amqps", &amqp.ExternalAuth{}, &tls.Config{RootCAs: pool}) {
		t.Error("a password, or no certificate, comes in")
	}
}

// signed returns a certificate of that name, and a pool that trusts it.
func signed(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	body, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(body)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{body}, PrivateKey: private}, pool
}
