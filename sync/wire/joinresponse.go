package wire

// JoinResponse answers a JoinRequest.
type JoinResponse struct {
	small
	Verdict     uint8 // 0: joined; else see join.VerdictError
	Text        string
	Certificate []byte // DER
	CA          []byte // DER
}

func (*JoinResponse) Type() Type { return TypeJoinResponse }

func (f *JoinResponse) encode(b []byte) []byte {
	b = append(b, f.Verdict)
	b = putString(b, f.Text)
	b = putBytes(b, f.Certificate)
	return putBytes(b, f.CA)
}

func (f *JoinResponse) decode(c *decoder) {
	f.Verdict = c.Byte()
	f.Text = c.str()
	f.Certificate = c.bytes()
	f.CA = c.bytes()
}
