package amqp

import "strings"

// handshake opens the connection. Words change it: mechanism=, response=, vhost=, frame-max=,
// channel-max=, and until= the method with which the player stops.
func (p *player) handshake(s step, c *conn, words []string) error {
	s.channel = 0
	with := map[string]string{"mechanism": "PLAIN", "vhost": "/", "response": "\x00guest\x00guest"}
	if password, ok := p.url.User.Password(); ok {
		with["response"] = "\x00" + p.url.User.Username() + "\x00" + password
	}
	if vhost := strings.TrimPrefix(p.url.Path, "/"); vhost != "" {
		with["vhost"] = vhost
	}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		with[name] = value
	}
	if err := c.write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	on := true
	expect := func(name string) (got event, err error) {
		err = p.receive(s, c, func(e event) bool { got = e; return e.method.name == name })
		on = err == nil && got.method != nil && got.method.name == name && with["until"] != name
		return got, err
	}
	send := func(name string, given map[string]any) error {
		return c.send(0, p.names.byName[name], given, nil, "")
	}
	if _, err := expect("connection.start"); err != nil || !on {
		return err
	}
	if err := send("connection.start-ok", map[string]any{"mechanism": with["mechanism"], "response": with["response"], "locale": "en_US",
		"client-properties": clientProperties()}); err != nil {
		return err
	}
	tune, err := expect("connection.tune")
	if err != nil || !on {
		return err
	}
	agreed := map[string]any{"channel-max": tune.given["channel-max"], "frame-max": tune.given["frame-max"]}
	for name := range agreed {
		if text, ok := with[name]; ok {
			n, err := (&reader{text}).argument('l')
			if err != nil {
				return err
			}
			agreed[name] = n
		}
	}
	c.frameMax = uint32(agreed["frame-max"].(uint64))
	if err := send("connection.tune-ok", agreed); err != nil {
		return err
	}
	if with["until"] == "connection.tune-ok" {
		return nil
	}
	if err := send("connection.open", map[string]any{"virtual-host": with["vhost"]}); err != nil {
		return err
	}
	_, err = expect("connection.open-ok")
	return err
}

// clientProperties says what the player can take.
func clientProperties() fields {
	all := fields{}
	for _, name := range []string{"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked", "authentication_failure_close"} {
		all = append(all, field{name, value{'t', int64(1)}})
	}
	return fields{{"capabilities", value{'F', all}}}
}
