package kafka

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/storage/record"
)

// forEverybody are the operations that ask for no right.
var forEverybody = []kmsg.Key{kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.DescribeCluster}

// denials are the error codes for clients without the right.
var denials = []int16{kerr.TopicAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code, kerr.TransactionalIDAuthorizationFailed.Code}

// found is what a response says, as far as rights go.
type found struct {
	codes    []int16 // all of them
	elements int     // of all lists
}

func (f *found) look(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.look(v.Elem())
		}
	case reflect.Slice:
		f.elements += v.Len()
		for i := range v.Len() {
			f.look(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				f.codes = append(f.codes, int16(v.Field(i).Int()))
			}
			if v.Type().Field(i).IsExported() {
				f.look(v.Field(i))
			}
		}
	}
}

func (f *found) denied() bool {
	return slices.ContainsFunc(f.codes, func(c int16) bool { return slices.Contains(denials, c) })
}

// asks sends one request and looks at the answer.
func (w *wire) asks(q kmsg.Request) found {
	w.t.Helper()
	w.send(q)
	var f found
	f.look(reflect.ValueOf(receiveAs(w, w.id, q.ResponseKind())))
	return f
}

// Every operation refuses a client without rights, or answers a list that is empty
// for it and not empty for a client with them: an operation that forgets to check
// fails here.
func TestNobodyMayAnything(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	topic := d.newTopic(t, "a", 1, nil)
	nobody, root := d.as(t, "nobody"), d.as(t, "root")
	id := kmsg.NewPtrInitProducerIDRequest()
	id.Version, id.TransactionalID, id.TransactionTimeoutMillis = 4, kmsg.StringPtr("t"), 1000
	for _, q := range append(examples(t, topic), id) { // so that there is something to list
		switch q.(type) {
		case *kmsg.OffsetCommitRequest:
			q.SetVersion(8)
			root.asks(q)
		case *kmsg.InitProducerIDRequest:
			if f := root.asks(q); f.codes[0] != 0 {
				t.Fatalf("%+v: %+v", q, f)
			}
		}
	}
	for _, q := range examples(t, topic) {
		a := d.api(q.Key())
		if slices.Contains(forEverybody, a.key) {
			continue
		}
		for v := max(a.min, oldest(a.key)); v <= a.max; v++ {
			q.SetVersion(v)
			if produce, ok := q.(*kmsg.ProduceRequest); ok {
				produce.Topics[0].Partitions[0].Records = batchOf(t, record.None, "x")
			}
			switch f := nobody.asks(q); {
			case f.denied():
			case f.elements > 0 || slices.ContainsFunc(f.codes, func(c int16) bool { return c != 0 }):
				t.Errorf("%s v%d tells who may nothing %+v", a.key.Name(), v, f)
			case root.asks(q).elements == 0:
				t.Errorf("%s v%d tells everybody nothing: give it an example that finds something", a.key.Name(), v)
			}
		}
	}
	if end, err := d.end(topic.ID); err != nil || end != 0 {
		t.Errorf("%d records were written: %v", end, err)
	}
}

// oldest is the first version that is not only advertised.
func oldest(key kmsg.Key) int16 {
	switch key {
	case kmsg.Produce:
		return firstProduce
	case kmsg.SASLHandshake:
		return firstHandshake
	}
	return 0
}

func (d *door) end(topic [16]byte) (int64, error) {
	_, end, err := d.broker.Bounds(topic, 0)
	return end, err
}

// A super user is never refused.
func TestRootMayEverything(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	topic, root := d.newTopic(t, "a", 1, nil), d.as(t, "root")
	for _, q := range examples(t, topic) {
		if q.Key() == kmsg.SASLAuthenticate.Int16() || q.Key() == kmsg.SASLHandshake.Int16() {
			continue // of another connection
		}
		q.SetVersion(d.api(q.Key()).max)
		if join, ok := q.(*kmsg.JoinGroupRequest); ok {
			join.Group = "another"
		}
		if f := root.asks(q); f.denied() {
			t.Errorf("%s: %+v", d.api(q.Key()).key.Name(), f)
		}
	}
}

// allow gives ann a right.
func (d *door) allow(t *testing.T, typ auth.ResourceType, name string, ops ...auth.Operation) {
	t.Helper()
	for _, op := range ops {
		a := auth.ACL{Resource: auth.Resource{Type: typ, Pattern: auth.Literal, Name: name}, Rule: auth.Rule{Principal: "User:ann", Host: auth.Any, Operation: op, Permission: auth.Allow}}
		if err := d.own.Users.AddACLs(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
}

// What clients need is what Kafka's documentation lists, and no more.
func TestLeastRights(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, ScramSHA256)
	d.newTopic(t, "in", 1, nil)
	d.newTopic(t, "other", 1, nil)
	ctx := within30s(t)
	login := kgo.SASL(loginAs("ann", "ann's secret")[ScramSHA256])

	produce := func(topic string) error {
		return d.client(t, login).ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	}
	if err := produce("in"); !errors.Is(err, kerr.TopicAuthorizationFailed) && !errors.Is(err, kerr.ClusterAuthorizationFailed) {
		t.Errorf("write without a right: %v", err)
	}
	d.allow(t, auth.Topic, "in", auth.Write)
	if err := produce("in"); err != nil { // an idempotent producer needs no more (KIP-679)
		t.Errorf("write: %v", err)
	}
	for _, topic := range []string{"other", "new"} {
		if err := produce(topic); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("write to %s: %v", topic, err)
		}
	}
	if _, err := d.broker.Topic("new"); err == nil {
		t.Error("a topic was created for who may not")
	}
	d.allow(t, auth.Topic, "new", auth.Write)
	if err := produce("new"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("create: %v", err)
	}
	d.allow(t, auth.ClusterResource, auth.Cluster, auth.Create)
	if err := produce("new"); err != nil {
		t.Errorf("create: %v", err)
	}

	d.allow(t, auth.Topic, "in", auth.Read)
	d.allow(t, auth.Group, "g", auth.Read)
	poll(t, d.client(t, login, kgo.ConsumeTopics("in"), kgo.ConsumerGroup("g")), 1)
	for _, topic := range []string{"in", "other"} { // the lag in a topic is shown only to clients that may know the topic
		o := kadm.OffsetsFromRecords(kgo.Record{Topic: topic, Offset: 4})
		if err := kadm.NewClient(d.client(t, kgo.SASL(loginAs("root", "root's secret")[ScramSHA256]))).CommitAllOffsets(ctx, "h", o); err != nil {
			t.Fatal(err)
		}
	}
	d.allow(t, auth.Group, "h", auth.Describe)
	if at, err := kadm.NewClient(d.client(t, login)).FetchOffsets(ctx, "h"); err != nil || len(at) != 1 || at["in"][0].At != 5 {
		t.Errorf("ann sees %v, %v", at, err)
	}
	names, err := kadm.NewClient(d.client(t, login)).ListTopics(ctx)
	if err != nil || !slices.Equal(names.Names(), []string{"in", "new"}) {
		t.Errorf("ann sees %v, %v", names.Names(), err)
	}
}

func TestUsersAsAdmin(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, ScramSHA512, ScramSHA256, Plain)
	ctx := within30s(t)
	admin := kadm.NewClient(d.client(t, kgo.SASL(loginAs("root", "root's secret")[ScramSHA256])))
	made, err := admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "ann", Mechanism: kadm.ScramSha512}, {User: "eve", Mechanism: kadm.ScramSha256}},
		[]kadm.UpsertSCRAM{{User: "new", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]*kerr.Error{"ann": nil, "new": nil, "eve": kerr.ResourceNotFound} {
		if got := made[user].Err; want == nil && got != nil || want != nil && !errors.Is(got, want) {
			t.Errorf("%s: %v", user, got)
		}
	}
	if err := d.client(t, kgo.SASL(loginAs("new", "p")[ScramSHA256])).Ping(ctx); err != nil {
		t.Errorf("who was made just now: %v", err)
	}
	if err := d.client(t, kgo.SASL(loginAs("ann", "ann's secret")[ScramSHA512])).Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a mechanism that was taken away: %v", err)
	}
	all, err := admin.DescribeUserSCRAMs(ctx)
	if err != nil || len(all) != 4 || len(all["ann"].CredInfos) != 1 || all["new"].CredInfos[0].Iterations != 4096 || len(all["root"].CredInfos) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	weak := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	weak.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{
		{Name: "weak", Mechanism: 1, Iterations: 4095, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32)},
		{Name: "short", Mechanism: 1, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 31)},
		{Name: "unknown", Mechanism: 3, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32)}}
	weak.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "ann", Mechanism: 1}, {Name: "ann", Mechanism: 1}}
	refusals := map[string]int16{"weak": kerr.UnacceptableCredential.Code, "short": kerr.UnacceptableCredential.Code, "unknown": kerr.UnsupportedSaslMechanism.Code, "ann": kerr.DuplicateResource.Code}
	for _, r := range ask[*kmsg.AlterUserSCRAMCredentialsResponse](d.as(t, "root"), weak).Results {
		if r.ErrorCode != refusals[r.User] {
			t.Errorf("%+v", r)
		}
	}
	some, err := admin.DescribeUserSCRAMs(ctx, "new", "eve")
	if err != nil || len(some) != 2 || !errors.Is(some["eve"].Err, kerr.ResourceNotFound) {
		t.Errorf("%+v, %v", some, err)
	}
}

func TestACLsAsAdmin(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	ctx := within30s(t)
	admin := kadm.NewClient(d.client(t, kgo.SASL(loginAs("root", "root's secret")[Plain])))
	b := kadm.NewACLs().Topics("a", "b").Groups("g").Allow("User:ann").AllowHosts("*").Operations(kadm.OpRead, kadm.OpWrite).ResourcePatternType(kadm.ACLPatternPrefixed)
	made, err := admin.CreateACLs(ctx, b)
	if err != nil || len(made) != 6 {
		t.Fatalf("%v, %v", made, err)
	}
	for _, m := range made {
		if m.Err != nil {
			t.Error(m.Err)
		}
	}
	match, err := admin.DescribeACLs(ctx, kadm.NewACLs().Topics("abc").Allow().AllowHosts().Operations().ResourcePatternType(kadm.ACLPatternMatch))
	if err != nil || len(match) != 1 || len(match[0].Described) != 2 || match[0].Described[0].Name != "a" {
		t.Errorf("%+v, %v", match, err)
	}
	gone, err := admin.DeleteACLs(ctx, kadm.NewACLs().Groups("g").Allow().AllowHosts().Operations().ResourcePatternType(kadm.ACLPatternAny))
	if err != nil || len(gone) != 1 || len(gone[0].Deleted) != 2 {
		t.Errorf("%+v, %v", gone, err)
	}
	if left := d.own.Users.ACLs(auth.Filter{}); len(left) != 4 {
		t.Errorf("%v are left", left)
	}
	w := d.as(t, "root")
	bad := kmsg.NewPtrCreateACLsRequest()
	bad.Version = 3
	bad.Creations = []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "x", ResourcePatternType: 3, Principal: "ann", Host: "*", Operation: 3, PermissionType: 3},
		{ResourceType: 2, ResourceName: "x", ResourcePatternType: 3, Principal: "User:ann", Host: "*", Operation: 3, PermissionType: 3}}
	if r := ask[*kmsg.CreateACLsResponse](w, bad); r.Results[0].ErrorCode != kerr.InvalidRequest.Code || r.Results[1].ErrorCode != 0 {
		t.Errorf("%+v", r)
	}
	empty := kmsg.NewPtrDeleteACLsRequest() // "" is not null: it does not choose everything
	empty.Version = 3
	empty.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1, ResourceName: kmsg.StringPtr("")}}
	if r := ask[*kmsg.DeleteACLsResponse](w, empty); r.Results[0].ErrorCode != kerr.InvalidRequest.Code || len(d.own.Users.ACLs(auth.Filter{})) != 5 {
		t.Errorf("%+v", r)
	}
}

// Where ACLs are off, no client is led to believe that they are on.
func TestACLsWithoutAuthorizer(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	for _, q := range securityExamples() {
		switch q := q.(type) {
		case *kmsg.DescribeACLsRequest, *kmsg.CreateACLsRequest, *kmsg.DeleteACLsRequest:
			q.SetVersion(3)
			w.send(q)
			var f found
			if f.look(reflect.ValueOf(receiveAs(w, w.id, q.ResponseKind()))); !slices.Contains(f.codes, kerr.SecurityDisabled.Code) {
				t.Errorf("%T: %+v", q, f)
			}
		}
	}
}

// A node that does not own the shard knows no ACLs. It says where the owner is and
// does nothing else, so that nothing is judged without them.
func TestAuthorizeOnStandby(t *testing.T) {
	d := open(t, setup{options: Options{Access: authorized()}})
	topic := d.newTopic(t, "a", 1, nil)
	d.lost.Store(true)
	for _, q := range examples(t, topic) {
		a := d.api(q.Key())
		w := d.dial(t)
		q.SetVersion(a.max)
		if w.send(q); onlyDirects(a.key) {
			w.frame()
		} else {
			w.closed()
		}
	}
	if end, err := d.end(topic.ID); err != nil || end != 0 {
		t.Errorf("%d records: %v", end, err)
	}
}
