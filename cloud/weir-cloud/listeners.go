package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/configs"
)

// listenerKeys are the keys of a listener's settings.
var listenerKeys = []string{"name", "listen", "advertise", "tls-cert", "tls-key", "client-ca", "sasl", "reauth", "route"}

// Values of the key route.
const (
	routeOwners = "owners"
	routeHere   = "here"
)

// parseListener reads "host:port", or "listen=host:port,sasl=plain,scram-sha-256,…". An
// element without a key belongs to the list before it.
func parseListener(s string) (listener.Settings, error) {
	l := listener.Settings{Name: listener.DefaultName}
	if !strings.Contains(s, "=") {
		l.Listen = s
		return l, l.Check()
	}
	given := make(map[string][]string)
	last := ""
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			if last != "sasl" {
				return l, fmt.Errorf("%q is neither key=value nor another mechanism of sasl", part)
			}
			given[last] = append(given[last], strings.TrimSpace(part))
			continue
		}
		last = strings.TrimSpace(key)
		if !slices.Contains(listenerKeys, last) {
			return l, fmt.Errorf("unknown key %q%s", last, meant(last))
		}
		if given[last] != nil {
			return l, fmt.Errorf("key %q is set twice", last)
		}
		given[last] = []string{strings.TrimSpace(value)}
	}
	for key, of := range map[string]*string{"name": &l.Name, "listen": &l.Listen, "advertise": &l.Advertise,
		"tls-cert": &l.TLSCert, "tls-key": &l.TLSKey, "client-ca": &l.ClientCA} {
		if v := given[key]; v != nil {
			*of = v[0]
		}
	}
	if v := given["reauth"]; v != nil {
		var err error
		if l.Reauth, err = configs.ParseDuration(v[0]); err != nil {
			return l, fmt.Errorf("reauth: %w", err)
		}
	}
	if v := given["route"]; v != nil {
		if l.Here = v[0] == routeHere; !l.Here && v[0] != routeOwners {
			return l, fmt.Errorf("route %q: there are %s and %s", v[0], routeOwners, routeHere)
		}
	}
	var err error
	if l.SASL, err = mechanisms(given["sasl"]); err != nil {
		return l, err
	}
	return l, l.Check()
}

func meant(word string) string {
	if near := configs.Nearest(word, listenerKeys); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ": there are " + strings.Join(listenerKeys, ", ")
}

// mechanisms reads SASL mechanisms; "scram" stands for all of that family.
func mechanisms(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		if name = strings.ToUpper(name); name == "SCRAM" {
			all = append(all, login.ScramSHA512, login.ScramSHA256)
			continue
		}
		if !slices.Contains(login.Mechanisms(), name) {
			return nil, fmt.Errorf("sasl %q: there are scram, %s", name, strings.ToLower(strings.Join(login.Mechanisms(), ", ")))
		}
		all = append(all, name)
	}
	return all, nil
}

// listeners reads --kafka.
func (s settings) listeners() ([]listener.Settings, error) {
	return readListeners("kafka", s.kafka, s.checkKafka)
}

// amqpListeners reads --amqp.
func (s settings) amqpListeners() ([]listener.Settings, error) {
	all, err := readListeners("amqp", s.amqp, s.checkAMQP)
	for i := range all {
		all[i] = login.Always(all[i], s.amqpAnonymous)
	}
	return all, err
}

// managementListeners reads --management. Its clients log in by password, whatever else
// the listener asks for.
func (s settings) managementListeners() ([]listener.Settings, error) {
	all, err := readListeners("management", s.management, checkManagement)
	for i := range all {
		if all[i].ClientCA != "" {
			all[i].SASL = []string{login.Plain}
		}
		all[i] = login.Always(all[i], false)
	}
	return all, err
}

// readListeners reads the values of a flag; off discards those before it.
func readListeners(flag string, texts []string, check func(listener.Settings) error) ([]listener.Settings, error) {
	var all []listener.Settings
	for _, text := range texts {
		if text == cloud.Off {
			all = nil
			continue
		}
		l, err := parseListener(text)
		if err == nil {
			err = check(l)
		}
		if err == nil && slices.ContainsFunc(all, func(other listener.Settings) bool { return other.Name == l.Name }) {
			err = fmt.Errorf("two listeners are called %q: give each a name", l.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", flag, text, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// checkKafka refuses a Kafka listener that is less safe than it looks.
func (s settings) checkKafka(l listener.Settings) error {
	if err := configs.CheckListener("listener", l.Listen, l.Authenticated() || s.kafkaAnonymous,
		"set sasl or client-ca, or set --kafka-anonymous to let everyone read and write"); err != nil {
		return err
	}
	if err := checkSecrets(l, "; or use sasl=scram"); err != nil {
		return err
	}
	if slices.Contains(l.SASL, login.OAuthBearer) && s.tokens.Keys == "" {
		return errors.New("oauthbearer needs --kafka-oauth-keys, --kafka-oauth-issuer and --kafka-oauth-audience")
	}
	return nil
}

// checkAMQP refuses an AMQP listener that is less safe than it looks, or asks for a
// mechanism that AMQP's clients do not have.
func (s settings) checkAMQP(l listener.Settings) error {
	if err := checkRoute(l); err != nil {
		return err
	}
	if err := configs.CheckListener("listener", l.Listen, l.Authenticated() || s.amqpAnonymous,
		"set sasl or client-ca, or set --amqp-anonymous to let everyone use all queues and topics"); err != nil {
		return err
	}
	for _, m := range l.SASL {
		if m != login.Plain {
			return fmt.Errorf("sasl=%s: clients of AMQP log in by plain, or with client-ca by their certificate", strings.ToLower(m))
		}
	}
	return checkSecrets(l, "")
}

// checkManagement refuses a listener that sends passwords in the clear, or asks for a
// mechanism that HTTP's Basic scheme is not.
func checkManagement(l listener.Settings) error {
	if err := checkRoute(l); err != nil {
		return err
	}
	for _, m := range l.SASL {
		if m != login.Plain {
			return fmt.Errorf("sasl=%s: clients log in by plain", strings.ToLower(m))
		}
	}
	l.SASL = []string{login.Plain}
	return checkSecrets(l, "")
}

// checkRoute refuses what only Kafka's clients need: those of other protocols never see more
// than one node.
func checkRoute(l listener.Settings) error {
	if l.Here {
		return fmt.Errorf("route=%s is for --kafka only", routeHere)
	}
	return nil
}

// checkSecrets refuses secrets in the clear.
func checkSecrets(l listener.Settings, or string) error {
	for _, m := range []string{login.Plain, login.OAuthBearer} {
		if slices.Contains(l.SASL, m) && l.TLSCert == "" && !configs.Loopback(l.Listen) {
			return fmt.Errorf("sasl=%s sends the secret in the clear: it needs tls-cert and tls-key, or a loopback address%s", strings.ToLower(m), or)
		}
	}
	return nil
}

// checkTokens refuses incomplete settings for tokens.
func checkTokens(o bearer.Options) error {
	if given := o.Keys != "" || o.Issuer != "" || o.Audience != ""; given && (o.Keys == "" || o.Issuer == "" || o.Audience == "") {
		return errors.New("--kafka-oauth-keys, --kafka-oauth-issuer and --kafka-oauth-audience must be set together")
	}
	return nil
}
