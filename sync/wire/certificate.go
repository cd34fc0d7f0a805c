package wire

// Certificate answers a Renew.
type Certificate struct {
	small
	Reason Reason // ReasonNone: DER is the new certificate
	DER    []byte
	Text   string // for people, when refused
}

func (*Certificate) Type() Type { return TypeCertificate }

func (f *Certificate) encode(b []byte) []byte {
	b = append(b, byte(f.Reason))
	b = putBytes(b, f.DER)
	return putString(b, f.Text)
}

func (f *Certificate) decode(c *decoder) {
	f.Reason = c.reason()
	f.DER = c.bytes()
	f.Text = c.str()
}
