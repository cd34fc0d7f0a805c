// Command weir-edge is a gateway: sensors speak MQTT to it, it keeps every
// message in a local log before it acknowledges it, and syncs the log to the
// cloud.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/configs/systemd"
	"github.com/weirmq/weir/edge"
	"github.com/weirmq/weir/sync/join"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

type settings struct {
	data, gateway, join, joinFile          string
	cloud                                  []string
	mqtt, mqtts, cert, key, clientCA, http string
	ws, wss                                string
	origins                                []string
	users, acl, routes, logFormat          string
	maxTopics                              int
	anonymous, httpOpen, source            bool
	admin                                  edge.HTTP
	quota, reserve                         int64
	devices                                edge.Devices
}

// flags are the flags of weir-edge.
func (s *settings) flags(fs *pflag.FlagSet) {
	fs.StringVar(&s.data, "data", "./data/edge", "`directory` of the local log, the sessions of devices and the gateway's identity")
	fs.StringSliceVar(&s.cloud, "cloud", nil, "`address` of a cloud node's --sync, HOST:7400. Name all nodes, separated by commas: they are tried in turn")
	fs.StringVar(&s.joinFile, "join-file", "", "`file` with a join token of the cloud (weirctl join-token makes one). It is read until the gateway has joined, and again if the cloud refuses the gateway")
	fs.StringVar(&s.join, "join", "", "the join `token` itself, if there is no --join-file. Other users of this machine can see it in the list of processes")
	fs.StringVar(&s.gateway, "gateway-id", "", "`id` of this gateway, unique in the cluster. Set it if host names are not unique (default: the id that it joined with, else the host name)")
	fs.StringVar(&s.mqtt, "mqtt", "127.0.0.1:1883", "TCP `address` for devices, or off")
	fs.StringVar(&s.users, "mqtt-users", "", "`file` of name:hash lines, as mosquitto_passwd or htpasswd -B (package apache2-utils) writes them. Only these users may connect")
	fs.StringVar(&s.acl, "mqtt-acl", "", "`file` that says which topics devices may publish and read, in the format of mosquitto's acl_file. What no line allows is denied (default: everything is allowed)")
	fs.BoolVar(&s.anonymous, "mqtt-anonymous", false, "let anybody who can reach --mqtt, --mqtts, --mqtt-ws or --mqtt-wss publish and subscribe")
	fs.StringVar(&s.mqtts, "mqtts", "off", "TCP `address` for devices that use TLS, such as :8883, or off")
	fs.StringVar(&s.cert, "mqtts-cert", "", "PEM `file` with the certificate of --mqtts and --mqtt-wss; read again when it changes")
	fs.StringVar(&s.key, "mqtts-key", "", "PEM `file` with the key of --mqtts-cert")
	fs.StringVar(&s.clientCA, "mqtts-client-ca", "", "PEM `file` with a CA. Devices on --mqtts and --mqtt-wss then need a certificate that it signed")
	fs.StringVar(&s.ws, "mqtt-ws", "off", "TCP `address` for MQTT over WebSocket (devices and web pages), such as :8083, or off")
	fs.StringVar(&s.wss, "mqtt-wss", "off", "TCP `address` for MQTT over WebSocket with TLS and the certificate of --mqtts-cert, or off")
	fs.StringSliceVar(&s.origins, "mqtt-ws-origins", nil, "`origins` of web pages that may use --mqtt-ws and --mqtt-wss, such as https://panel.example, or * for all. Pages of the same host always may")
	s.deviceFlags(fs)
	fs.StringVar(&s.routes, "routes", "", "YAML `file` that says which MQTT topics go to which Kafka topics (default: the first level of the MQTT topic)")
	fs.IntVar(&s.maxTopics, "max-topics", edge.DefaultMaxTopics, "`number` of Kafka topics that messages may name, by the first level of their MQTT topic or by a route with placeholders. Messages for more topics go to topic "+edge.Unrouted)
	fs.BoolVar(&s.source, "source-header", false, "add a header weir.source to each record: its buffer, lane and sequence on this gateway")
	configs.BytesVar(fs, &s.quota, "quota", 1<<30, "`size` on the disk for the local log and the state of devices. When it is used up, messages are refused. Raise it to last longer without a link")
	configs.BytesVar(fs, &s.reserve, "reserve", 64<<20, "`size` of free space to leave on the disk. When less is free, messages are refused. Raise it if other programs write to the same disk")
	fs.StringVar(&s.http, "http", "127.0.0.1:8081", "TCP `address` for health, metrics, dead letters and sessions, or off. All but health and metrics needs the token in <data>/admin-token")
	fs.StringVar(&s.admin.Certificate, "http-tls-cert", "", "PEM `file` with the certificate of --http; read again when it changes")
	fs.StringVar(&s.admin.Key, "http-tls-key", "", "PEM `file` with the key of --http-tls-cert")
	fs.BoolVar(&s.httpOpen, "http-without-tls", false, "let other machines reach --http without TLS. The token can then be read on the network")
	fs.StringSliceVar(&s.admin.Hosts, "http-hosts", nil, "`names` under which browsers and programs may address --http, besides its address, localhost and the host name. Set it if they use another name")
	fs.BoolVar(&s.admin.Anonymous, "http-anonymous", false, "let anybody who can reach --http read everything there without the token")
	fs.StringVar(&s.logFormat, "log-format", "text", "`format` of log lines: text or json")
}

func parse(args, environ []string, out io.Writer) (settings, error) {
	var s settings
	fs := pflag.NewFlagSet("weir-edge", pflag.ContinueOnError)
	s.flags(fs)
	p := configs.Program{
		Name: "weir-edge",
		Summary: "weir-edge takes MQTT messages from devices, and acknowledges a message when it is on its disk. It works\n" +
			"without a link to the cloud too, and delivers everything, in order and exactly once, when there is one.",
		Notes: "On SIGHUP it reads users, ACL, routes and certificates again, and logs what has changed.\n\n" +
			"weir-edge routes test TOPIC shows where messages of an MQTT topic go.\n\nExamples:\n  weir-edge --cloud cloud.example:7400 --join-file token   the first time\n" +
			"  weir-edge --cloud cloud.example:7400                       from then on\n" +
			"  weir-edge --cloud cloud.example:7400 --mqtt :1883 --mqtt-users /etc/weir/users",
	}
	if err := configs.Load(p, fs, args, environ, out); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("weir-edge takes no argument %q", fs.Arg(0))
	}
	if s.gateway == "" {
		s.gateway = cmp.Or(edge.KnownGateway(s.data), hostName())
	}
	return s, s.check()
}

// hostName returns the host's name as a gateway id.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "gateway"
	}
	return name
}

func (s settings) check() error {
	check := join.CheckNewGateway
	if edge.KnownGateway(s.data) == s.gateway {
		check = join.CheckGateway // ids of gateways that joined earlier need not begin with a letter or digit
	}
	if err := check(s.gateway); err != nil {
		return fmt.Errorf("--gateway-id %w", err)
	}
	if s.join != "" {
		if _, err := join.ParseToken(s.join); err != nil {
			return fmt.Errorf("--join: %w", err)
		}
		if len(s.cloud) == 0 {
			return errors.New("--join needs --cloud HOST:7400")
		}
	}
	if on := s.mqtts != edge.Off || s.wss != edge.Off; on != (s.cert != "") || on != (s.key != "") || !on && s.clientCA != "" {
		return errors.New("--mqtts and --mqtt-wss need --mqtts-cert and --mqtts-key, which, like --mqtts-client-ca, are for them only")
	}
	if s.quota < 16<<20 {
		return fmt.Errorf("--quota %d is less than 16 MiB", s.quota)
	}
	if err := checkDevices(s.devices, s.quota); err != nil {
		return err
	}
	if s.maxTopics < 1 {
		return fmt.Errorf("--max-topics %d is less than 1", s.maxTopics)
	}
	if s.reserve < 0 {
		return fmt.Errorf("--reserve %d is negative", s.reserve)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return fmt.Errorf("--log-format %q is neither text nor json", s.logFormat)
	}
	for _, addr := range s.cloud {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return fmt.Errorf("--cloud %q is not of the form HOST:7400", addr)
		}
	}
	const (
		login       = "set --mqtt-users, or set --mqtt-anonymous to let everyone publish and subscribe"
		certificate = "set --mqtt-users or --mqtts-client-ca, or set --mqtt-anonymous to let everyone publish and subscribe"
	)
	return errors.Join(
		configs.CheckListener("--mqtt", s.mqtt, s.users != "" || s.anonymous, login),
		configs.CheckListener("--mqtts", s.mqtts, s.users != "" || s.clientCA != "" || s.anonymous, certificate),
		configs.CheckListener("--mqtt-ws", s.ws, s.users != "" || s.anonymous, login),
		configs.CheckListener("--mqtt-wss", s.wss, s.users != "" || s.clientCA != "" || s.anonymous, certificate),
		configs.CheckAdmin(s.http, s.admin.Certificate, s.admin.Key, s.httpOpen))
}

// exitSettings, EX_CONFIG, is the exit code for wrong settings: systemd does not restart
// a gateway that ends with it.
const exitSettings = 78

func run(args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "routes" {
		return end(routesCommand(args[1:], environ, stdout, stderr), 1, stderr)
	}
	s, err := parse(args, environ, stdout)
	code := exitSettings
	if err == nil {
		code = 1
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err = s.serve(ctx, environ, stderr); errors.Is(err, edge.ErrSettings) {
			code = exitSettings
		}
	}
	return end(err, code, stderr)
}

// end logs what is wrong and returns the exit code.
func end(err error, code int, stderr io.Writer) int {
	if err != nil && !errors.Is(err, configs.ErrDone) {
		fmt.Fprintln(stderr, "weir-edge:", err)
		return code
	}
	return 0
}

func (s settings) serve(ctx context.Context, environ []string, stderr io.Writer) error {
	hangup := configs.ListenHangup()
	defer hangup.Stop()
	log := configs.Logger(stderr, s.logFormat)
	manager, err := systemd.Open(environ, log)
	if err != nil {
		return err
	}
	defer manager.Close()
	e, err := edge.Open(edge.Options{
		Data: s.data, Gateway: s.gateway, Cloud: s.cloud, Join: s.join, JoinFile: s.joinFile,
		MQTT: s.mqtt, MQTTS: s.mqtts, WebSocket: s.ws, WebSocketTLS: s.wss, Origins: s.origins, Certificate: s.cert, Key: s.key, ClientCA: s.clientCA, Users: s.users, ACL: s.acl,
		HTTP: s.http, Admin: s.admin, Routes: s.routes, MaxTopics: s.maxTopics, SourceHeader: s.source, Quota: s.quota, Reserve: s.reserve, Devices: s.devices,
		Software: "weir-edge " + configs.Version(), Ready: manager.Ready, Log: log,
	})
	if err != nil {
		return err
	}
	defer manager.Watch(e.Alive)()
	defer context.AfterFunc(ctx, func() {
		log.Info("stopping")
		manager.Stopping()
	})()
	go hangup.Run(ctx, func() { manager.Reload(e.Reload) })
	return e.Run(ctx)
}
