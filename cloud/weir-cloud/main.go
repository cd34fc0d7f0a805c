// Command weir-cloud is a cloud node: gateways sync to it, applications read through
// Kafka, and its state is in a bucket.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/configs/systemd"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

type settings struct {
	data, bucket, node, advertise, secretFile, joinFile string
	roleNames                                           []string
	roles                                               cluster.Roles
	sync, peer                                          string
	http                                                cloud.HTTP
	kafka, superUsers, amqp, management                 []string
	amqpTopics                                          string
	authorize                                           bool
	tokens                                              bearer.Options
	kafkaAnonymous, amqpAnonymous                       bool
	httpOpen, autoCreate                                bool
	partitions, shards                                  int
	autoShards                                          bool
	takeover, drain, linger, idleExit                   time.Duration
	upkeep                                              upkeep.Options
	limits                                              cloud.Limits
	logFormat                                           string
}

func parse(args, environ []string, out io.Writer) (settings, error) {
	var s settings
	fs := pflag.NewFlagSet("weir-cloud", pflag.ContinueOnError)
	fs.StringVar(&s.data, "data", "./data/cloud", "`directory` for what belongs to this node alone: its lock, the join token, its admin token, and the bucket unless --bucket is set")
	fs.StringVar(&s.bucket, "bucket", "", "`URL` of the bucket that holds everything: file:///path, s3://bucket/prefix?endpoint=…, mysql://user@host:port/database, redis://host:port/db, hdfs://namenode:9870/folder, mem: (default file:<data>/bucket)")
	fs.StringVar(&s.node, "node-id", "", "`name` of this node, unique in the cluster (default: a random one, kept in <data>/node-id)")
	fs.StringSliceVar(&s.roleNames, "roles", cluster.RoleNames(), "`roles` of this node: door, it takes clients and gateways; meta, it may own the catalogue; log, it may own the other shards. Set it to scale these apart, in a cluster of several shards. Without door --kafka, --amqp, --management and --sync are off")
	fs.StringVar(&s.advertise, "advertise", "", "`host` under which clients, gateways and other nodes reach the listeners that are not on loopback. Set it if they do not know this machine by its host name (default: the host of each listener, or the host name)")
	fs.StringVar(&s.sync, "sync", ":7400", "UDP `address` for gateways, or off. Only gateways with a certificate of the cluster are let in")
	fs.StringArrayVar(&s.kafka, "kafka", []string{"127.0.0.1:9092"}, "TCP `listener` for Kafka clients: an address, or name=…,listen=…,advertise=…,tls-cert=…,tls-key=…,client-ca=…,sasl=…,reauth=…,route=…, or off. Repeat it for several listeners")
	fs.BoolVar(&s.kafkaAnonymous, "kafka-anonymous", false, "let anybody who can reach a listener without sasl and client-ca read and write")
	fs.BoolVar(&s.authorize, "kafka-authorize", false, "allow Kafka clients only what ACLs allow (weirctl acls). Set it on all nodes or on none")
	fs.StringSliceVar(&s.superUsers, "kafka-super-users", nil, "`names` of users who may do everything under --kafka-authorize, and in all vhosts of AMQP; ANONYMOUS is a client that did not log in")
	fs.StringVar(&s.tokens.Keys, "kafka-oauth-keys", "", "`URL` or file of the JSON Web Key Set that signs the tokens for sasl=oauthbearer")
	fs.StringVar(&s.tokens.Issuer, "kafka-oauth-issuer", "", "`name` of the issuer that a token must have")
	fs.StringVar(&s.tokens.Audience, "kafka-oauth-audience", "", "`name` of the audience that a token must have")
	fs.StringArrayVar(&s.amqp, "amqp", []string{cloud.Off}, "TCP `listener` for clients of AMQP 0-9-1, which speak to RabbitMQ as well: an address such as 127.0.0.1:5672, or keys as for --kafka, or off. Repeat it for several listeners")
	fs.BoolVar(&s.amqpAnonymous, "amqp-anonymous", false, "let anybody who can reach an --amqp listener without sasl and client-ca use all queues, with any name and password, and through stream queues and amq.topic create, read and write all topics, unless --kafka-authorize is set")
	fs.StringVar(&s.amqpTopics, "amqp-topics", cloud.Off, "`which` topics get what AMQP clients publish to amq.topic, besides the queues that are bound: existing, those named by the first word of a routing key, as gateways choose them; create, those that do not exist yet too; or off")
	fs.StringArrayVar(&s.management, "management", []string{cloud.Off}, "TCP `listener` for tools that use RabbitMQ's management HTTP API, such as rabbitmqadmin: an address such as 127.0.0.1:15672, or keys as for --kafka, or off. Users log in by password")
	fs.StringVar(&s.http.Listen, "http", "127.0.0.1:8080", "TCP `address` for browsers, health, metrics and weirctl, or off. All but health and metrics needs a credential (weirctl admin)")
	fs.StringVar(&s.http.TLSCert, "http-tls-cert", "", "PEM `file` with the certificate of --http; read again when it changes")
	fs.StringVar(&s.http.TLSKey, "http-tls-key", "", "PEM `file` with the key of --http-tls-cert")
	fs.BoolVar(&s.httpOpen, "http-without-tls", false, "let other machines reach --http without TLS. Credentials can then be read on the network")
	fs.StringSliceVar(&s.http.Hosts, "http-hosts", nil, "`names` under which browsers and programs may address --http, besides its address, localhost and --advertise. Set it if they use another name")
	fs.BoolVar(&s.http.Anonymous, "http-anonymous", false, "let anybody who can reach --http read everything but secrets and records, without a credential")
	fs.BoolVar(&s.http.CloseMetrics, "http-close-metrics", false, "ask for a credential at /metrics, too")
	fs.StringVar(&s.peer, "peer", "", "TCP `address` at which the nodes of the cluster reach this one, or off. Only nodes with a certificate of the cluster are let in. Change it if port 7401 is taken (default :7401; 127.0.0.1:0 if the bucket is a local folder or memory)")
	fs.StringVar(&s.secretFile, "secret-file", "", "`file` with a secret that encrypts the keys in the bucket, the same for all nodes; required unless the bucket is a local folder or memory, or the node has the role door alone")
	fs.StringVar(&s.joinFile, "join-file", "", "`file` with a token of weirctl nodes token, with which a node with the role door alone gets its certificate from another node, once. Such a node needs no --secret-file, and does not read the keys in the bucket")
	fs.IntVar(&s.partitions, "partitions", 4, "`number` of partitions of a topic that is created without a number")
	fs.Var(shardsFlag{&s.shards, &s.autoShards}, "shards", "`number` of shards over which the data of a new cluster is spread, so that several nodes can each serve some of them. A cluster that runs gets more with weirctl shards split. A node of a cluster that exists needs no number. auto: shards are split by themselves, so that each node with the role log gets some, minutes after nodes have come; set it on all nodes")
	fs.BoolVar(&s.autoCreate, "auto-create", true, "create a topic when a gateway or a Kafka client first names it")
	configs.DurationVar(fs, &s.takeover, "takeover", 0, "`time` of the owner's silence after which a standby takes over. Raise it if the owner is replaced although it is alive (default 3s, in a cluster of several shards 2s)")
	configs.DurationVar(fs, &s.drain, "drain-timeout", 30*time.Second, "`time` that a node that is stopped (SIGTERM) has to hand its shards over to other nodes. With 0 it hands none over: another node takes them when it has ended")
	configs.DurationVar(fs, &s.idleExit, "idle-exit", 0, "`time` without clients and gateways after which the node ends with exit code 79, when another node or nobody needs its shards. Set it if a service manager holds the sockets and starts the node when somebody comes (weir-cloud-kafka.socket). Health and metrics do not count (default: it never ends)")
	configs.DurationVar(fs, &s.linger, "linger", -1, "`time` for which records are collected before they are written. Raise it where requests cost money: 100ms is at most ten writes a second. The first records after a pause of twice this time are not held back (default 0, on s3 100ms)")
	configs.DurationVar(fs, &s.upkeep.Age, "checkpoint-interval", 10*time.Minute, "`time` after which new records are rewritten into segments and a checkpoint is written, however few they are")
	configs.BytesVar(fs, &s.upkeep.Bytes, "checkpoint-bytes", 32<<20, "`size` of new records after which a checkpoint is written. After half as many, small batches are rewritten into segments. Lower it for faster starts")
	fs.IntVar(&s.upkeep.Debt, "checkpoint-debt", 8, "`number` of times --checkpoint-bytes that new records may wait to be rewritten before writers are slowed down; at twice as many, writers wait")
	configs.BytesVar(fs, &s.upkeep.Segment, "segment-bytes", 16<<20, "`size` that a segment object has, roughly. Raise it to have fewer objects in the bucket")
	addLimits(fs, &s.limits)
	fs.Lookup("shards").DefValue = "1"
	fs.Lookup("kafka").DefValue = "127.0.0.1:9092"
	fs.Lookup("roles").DefValue = strings.Join(cluster.RoleNames(), ",")
	fs.Lookup("amqp").DefValue = cloud.Off
	fs.Lookup("management").DefValue = cloud.Off
	fs.Lookup("linger").DefValue = "0" // it depends on the bucket
	fs.StringVar(&s.logFormat, "log-format", "text", "`format` of log lines: text or json")
	p := configs.Program{
		Name:    "weir-cloud",
		Summary: "weir-cloud takes records from gateways, keeps them in a bucket, and serves them to Kafka clients.\nA second weir-cloud on the same bucket stands by and takes over when the first is gone.",
		Notes: "On SIGHUP it reads the certificates of its listeners again.\n\nAfter each start <data>/join-token has a new join token, for weir-edge --join-file.\n" +
			"<data>/admin-token has the admin token of the node; weirctl on the same machine finds it.\n\n" +
			"A Kafka listener uses TLS if it has tls-cert and tls-key. With client-ca clients need a certificate, whose\n" +
			"name is the user's. With sasl they log in by scram, plain or oauthbearer (weirctl users). reauth is the\n" +
			"time after which a client has to log in again, such as 1h. Clients of a listener with route=here see one node,\n" +
			"which passes requests on to the others: set it where they cannot reach every node. The default is route=owners.\n\n" +
			"An AMQP listener without sasl and client-ca takes the user guest with the password guest from this\n" +
			"machine while there are no users, as RabbitMQ does; then users with sasl=plain (weirctl permissions).\n\n" +
			"Examples:\n  weir-cloud\n  weir-cloud --bucket 's3://weir?endpoint=http://127.0.0.1:9000' --secret-file /etc/weir/secret" +
			"\n  weir-cloud --kafka 127.0.0.1:9092 --kafka 'name=out,listen=:9094,tls-cert=cloud.pem,tls-key=cloud.key,sasl=scram'",
	}
	if err := configs.Load(p, fs, args, environ, out); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("weir-cloud takes no argument %q", fs.Arg(0))
	}
	if s.bucket == "" {
		s.bucket = "file:" + filepath.Join(s.data, "bucket")
	}
	if err := s.readRoles(fs); err != nil {
		return s, err
	}
	if s.peer == "" {
		s.peer = ":7401"
		if local(s.bucket) {
			s.peer = "127.0.0.1:0"
		}
	}
	if s.linger < 0 {
		s.linger = 0
		if strings.HasPrefix(s.bucket, "s3:") {
			s.linger = 100 * time.Millisecond
		}
	}
	return s, s.check()
}

func (s settings) check() error {
	if s.partitions < 1 || s.partitions > 10_000 {
		return fmt.Errorf("--partitions %d is not between 1 and 10000", s.partitions)
	}
	if s.shards < 0 || s.shards > weir.Slices {
		return fmt.Errorf("--shards %d is not between 1 and %d", s.shards, weir.Slices)
	}
	if s.autoShards && s.peer == cloud.Off {
		return errors.New("--shards auto: the nodes of several shards need each other, and --peer is off")
	}
	if len(s.node) > journal.MaxNode {
		return fmt.Errorf("--node-id is longer than %d bytes", journal.MaxNode)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return fmt.Errorf("--log-format %q is neither text nor json", s.logFormat)
	}
	switch s.amqpTopics {
	case cloud.Off, cloud.TopicsExisting, cloud.TopicsCreate:
	default:
		return fmt.Errorf("--amqp-topics %q is none of existing, create and off", s.amqpTopics)
	}
	if s.upkeep.Age < time.Second {
		return fmt.Errorf("--checkpoint-interval %v is shorter than a second", s.upkeep.Age)
	}
	if s.upkeep.Bytes < 1<<10 {
		return fmt.Errorf("--checkpoint-bytes %d is less than 1024", s.upkeep.Bytes)
	}
	if s.upkeep.Debt < 1 {
		return fmt.Errorf("--checkpoint-debt %d is less than 1", s.upkeep.Debt)
	}
	if s.upkeep.Segment < 1<<10 || s.upkeep.Segment > storage.MaxObject/2 {
		return fmt.Errorf("--segment-bytes %d is not between 1024 and %d", s.upkeep.Segment, storage.MaxObject/2)
	}
	if s.takeover != 0 && s.takeover < time.Second {
		return fmt.Errorf("--takeover %v is shorter than a second", s.takeover)
	}
	if s.idleExit < 0 || s.idleExit > 0 && s.idleExit < time.Second {
		return fmt.Errorf("--idle-exit %v is shorter than a second", s.idleExit)
	}
	if s.drain < 0 {
		return fmt.Errorf("--drain-timeout %v is negative", s.drain)
	}
	if err := open.Check(s.bucket); err != nil {
		return fmt.Errorf("--bucket: %w", err)
	}
	if s.joinFile != "" && (!s.doorAlone() || s.secretFile != "") {
		return errors.New("--join-file is for a node with --roles door and without --secret-file")
	}
	if s.secretFile == "" && !local(s.bucket) && !s.doorAlone() {
		return errors.New("the bucket is not a local folder, so the keys in it must be encrypted: give --secret-file a file with a secret of at least 16 characters, or the node --roles door and --join-file")
	}
	_, err := s.listeners()
	if err == nil {
		_, err = s.amqpListeners()
	}
	if err == nil {
		_, err = s.managementListeners()
	}
	return errors.Join(err, checkTokens(s.tokens), s.limits.Check(),
		configs.CheckAddress("--sync", s.sync), configs.CheckAddress("--peer", s.peer),
		configs.CheckAdmin(s.http.Listen, s.http.TLSCert, s.http.TLSKey, s.httpOpen))
}

// local reports whether a bucket is on this machine only.
func local(url string) bool {
	return strings.HasPrefix(url, "file:") || strings.HasPrefix(url, "mem:")
}

func run(args, environ []string, stdout, stderr io.Writer) int {
	s, err := parse(args, environ, stdout)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	code := exitRefused
	if err == nil {
		code = 1
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = s.serve(ctx, environ, stdout, stderr)
	}
	if err == cloud.ErrIdle { // and nothing else
		return exitIdle
	}
	if err != nil && !errors.Is(err, configs.ErrDone) {
		fmt.Fprintln(stderr, "weir-cloud:", err)
		if refuses(err) {
			fmt.Fprintf(stderr, "weir-cloud: the bucket %s is not led as it is, and nothing in it was deleted. Put back what is missing or damaged "+
				"from a copy. weirctl check lists all of it; weirctl check --repair, on a copy of the bucket, goes on without it.\n", s.bucket)
			return exitRefused
		}
		if errors.Is(err, cloud.ErrShards) || errors.Is(err, cloud.ErrNoToken) || errors.Is(err, cloud.ErrNotJoined) || errors.Is(err, cloud.ErrNodeRevoked) || errors.Is(err, listener.ErrSocket) {
			return exitRefused
		}
		return code
	}
	return 0
}

// exitRefused, EX_CONFIG, is the exit code for errors that only a person can fix, wrong
// settings among them. The units do not restart a node that ends with it.
const exitRefused = 78

// exitIdle is the exit code of a node that ends because nobody uses it: see --idle-exit. The
// units do not restart it; a socket does.
const exitIdle = 79

// refuses reports whether a node has ended because something in the bucket is missing
// or damaged.
func refuses(err error) bool {
	for _, kind := range []error{storage.ErrMissing, storage.ErrDamaged, journal.ErrCorrupt, state.ErrCorrupt, join.ErrCorrupt} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (s settings) serve(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	hangup := configs.ListenHangup()
	defer hangup.Stop()
	secret, err := s.secret()
	if err != nil {
		return err
	}
	token, err := s.joinToken()
	if err != nil {
		return err
	}
	name, err := s.nodeName()
	if err != nil {
		return err
	}
	bucket, err := open.Open(ctx, s.bucket)
	if err != nil {
		return err
	}
	if c, ok := bucket.(io.Closer); ok {
		defer c.Close()
	}
	log := configs.Logger(stderr, s.logFormat)
	manager, err := systemd.Open(environ, log)
	if err != nil {
		return err
	}
	defer manager.Close()
	listeners, err := s.listeners()
	if err != nil {
		return err
	}
	amqp, err := s.amqpListeners()
	if err != nil {
		return err
	}
	management, err := s.managementListeners()
	if err != nil {
		return err
	}
	sockets, err := passedSockets()
	if err != nil {
		return err
	}
	defer sockets.Close()
	node, err := cloud.Open(ctx, cloud.Options{
		Sockets: sockets,
		Bucket:  bucket, Data: s.data, Node: name, Roles: s.roles, Advertise: s.advertise,
		Sync: s.sync, Kafka: listeners, AMQP: amqp, AMQPTopics: s.amqpTopics, Management: management, HTTP: s.http, Peer: s.peer,
		Authorize: s.authorize, SuperUsers: principals(s.superUsers), Tokens: s.tokens,
		Secret: secret, NoKeys: s.noKeys(), JoinToken: token, Shards: s.shards, AutoShards: s.autoTime(), Partitions: int32(s.partitions), AutoCreate: s.autoCreate,
		Takeover: s.takeover, Drain: s.drain, IdleExit: s.idleExit, Linger: s.linger, Upkeep: s.upkeep, Limits: s.limits,
		ShowToken: showToken(stdout), Ready: manager.Ready, Log: log,
	})
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		defer collect(node.Several)()
	}
	defer manager.Watch(node.Alive)()
	defer context.AfterFunc(ctx, func() {
		log.Info("stopping")
		manager.Stopping()
	})()
	go hangup.Run(ctx, func() { manager.Reload(node.Reload) })
	return node.Run(ctx)
}

// passedSockets returns the sockets that the service manager has opened for this process.
func passedSockets() (*listener.Sockets, error) {
	passed, err := systemd.Sockets()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", listener.ErrSocket, err)
	}
	all := new(listener.Sockets)
	for _, s := range passed {
		if err := all.Add(s.Name, s.Stream, s.Packet); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// principals returns users as ACLs name them.
func principals(users []string) []string {
	var all []string
	for _, user := range users {
		all = append(all, auth.Principal(auth.UserOf(user)))
	}
	return all
}

// showToken prints the join token to a terminal, never into a pipe or a log.
func showToken(stdout io.Writer) func(token, file string) {
	f, ok := stdout.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(token, file string) {
		fmt.Fprintf(f, "Let a gateway in with\n\n  WEIR_EDGE_JOIN=%s weir-edge --cloud HOST:7400\n\n(the token is also in %s)\n", token, file)
	}
}

// doorAlone reports whether the node can own nothing.
func (s settings) doorAlone() bool {
	return !s.roles.Has(cluster.RoleMeta) && !s.roles.Has(cluster.RoleLog)
}

// noKeys reports whether the node goes on without the keys in the bucket.
func (s settings) noKeys() bool {
	return s.doorAlone() && s.secretFile == "" && (s.joinFile != "" || !local(s.bucket))
}

// joinToken returns what is in --join-file, "" if the node has joined already.
func (s settings) joinToken() (string, error) {
	if s.joinFile == "" {
		return "", nil
	}
	body, err := os.ReadFile(s.joinFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // it is needed once: cloud.Open says so if that is now
	}
	if err != nil {
		return "", fmt.Errorf("read --join-file: %w", err)
	}
	return strings.TrimSpace(string(body)), nil
}

func (s settings) secret() ([]byte, error) {
	if s.secretFile == "" {
		return nil, nil
	}
	body, err := os.ReadFile(s.secretFile)
	if err != nil {
		return nil, fmt.Errorf("read --secret-file: %w", err)
	}
	if secret := []byte(strings.TrimSpace(string(body))); len(secret) >= 16 {
		return secret, nil
	}
	return nil, fmt.Errorf("--secret-file %s has fewer than 16 characters", s.secretFile)
}

// nodeName returns --node-id, or a random name that is made at the first start. A power
// cut can leave its file empty: then another name does no harm.
func (s settings) nodeName() (string, error) {
	if s.node != "" {
		return s.node, nil
	}
	path := filepath.Join(s.data, "node-id")
	body, err := os.ReadFile(path)
	if err == nil {
		if name := strings.TrimSpace(string(body)); name != "" {
			return name, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the node id: %w", err)
	}
	if err := os.MkdirAll(s.data, 0o755); err != nil {
		return "", fmt.Errorf("create --data: %w", err)
	}
	random := make([]byte, 6)
	rand.Read(random) // never fails
	name := "node-" + hex.EncodeToString(random)
	if err := os.WriteFile(path, []byte(name+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("write the node id: %w", err)
	}
	return name, nil
}
