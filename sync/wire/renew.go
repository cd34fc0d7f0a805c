package wire

// Renew asks for a new certificate. It may be the first frame of a session. A session
// with an expired certificate may send nothing else.
type Renew struct {
	small
	CSR []byte // PKCS #10, DER; its name is the gateway id
}

func (*Renew) Type() Type { return TypeRenew }

func (f *Renew) encode(b []byte) []byte { return putBytes(b, f.CSR) }

func (f *Renew) decode(c *decoder) { f.CSR = c.bytes() }
