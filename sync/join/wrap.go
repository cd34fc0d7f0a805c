package join

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// The stored form of a CA: magic, a byte that reports whether the key is wrapped,
// certificate (4-byte length, DER), then the key: PKCS #8 as it is, or a 32-byte
// salt and the AES-256-GCM of it, with all that precedes as additional data.
// The AES key and the nonce come out of HKDF-SHA256 over secret and salt; the
// salt is fresh for each Marshal, so no pair is ever used twice.
const (
	caMagic   = "weirca1\n"
	caPlain   = 0
	caWrapped = 1
	saltLen   = 32
)

// Marshal returns the CA in its stored form. With a secret its key is wrapped;
// a nil secret leaves it in the open, for a store that only the owner can read.
func (ca *CA) Marshal(secret []byte) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("marshal CA key: %w", err)
	}
	mode := byte(caPlain)
	if secret != nil {
		mode = caWrapped
	}
	b := append([]byte(caMagic), mode)
	b = binary.BigEndian.AppendUint32(b, uint32(len(ca.cert.Raw)))
	b = append(b, ca.cert.Raw...)
	if secret == nil {
		return append(b, key...), nil
	}
	salt := make([]byte, saltLen)
	rand.Read(salt)
	b = append(b, salt...)
	gcm, nonce, err := wrapper(secret, salt)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(b, nonce, key, b), nil
}

// UnmarshalCA reads what Marshal wrote. The error is ErrSecret if the secret is missing
// or wrong, ErrCorrupt if the bytes are damaged.
func UnmarshalCA(b, secret []byte) (*CA, error) {
	head := len(caMagic) + 1 + 4
	if len(b) < head || !bytes.HasPrefix(b, []byte(caMagic)) {
		return nil, fmt.Errorf("read CA: %w", ErrCorrupt)
	}
	mode := b[len(caMagic)]
	n := uint64(binary.BigEndian.Uint32(b[len(caMagic)+1:]))
	if n > uint64(len(b)-head) {
		return nil, fmt.Errorf("read CA: %w", ErrCorrupt)
	}
	cert, err := x509.ParseCertificate(b[head : head+int(n)])
	if err == nil { // it signed itself, so no byte of it was changed
		err = cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	}
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", ErrCorrupt)
	}
	key := b[head+int(n):]
	switch {
	case mode == caWrapped:
		if key, err = unwrap(b, len(b)-len(key), secret); err != nil {
			return nil, err
		}
	case mode != caPlain:
		return nil, fmt.Errorf("read CA of mode %d: %w", mode, ErrCorrupt)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read CA key: %w", ErrCorrupt)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("read CA key: not that of the certificate: %w", ErrCorrupt)
	}
	// The parser does not check the second copy of the public half.
	if again, err := x509.MarshalPKCS8PrivateKey(private); err != nil || !bytes.Equal(again, key) {
		return nil, fmt.Errorf("read CA key: not in the form in which it is stored: %w", ErrCorrupt)
	}
	return &CA{cert: cert, key: private}, nil
}

// unwrap opens the key that begins, with its salt, at b[at].
func unwrap(b []byte, at int, secret []byte) ([]byte, error) {
	if secret == nil {
		return nil, fmt.Errorf("it is encrypted, and no secret was given: %w", ErrSecret)
	}
	if len(b) < at+saltLen {
		return nil, fmt.Errorf("read CA key: %w", ErrCorrupt)
	}
	gcm, nonce, err := wrapper(secret, b[at:at+saltLen])
	if err != nil {
		return nil, err
	}
	key, err := gcm.Open(nil, nonce, b[at+saltLen:], b[:at+saltLen])
	if err != nil {
		return nil, ErrSecret
	}
	return key, nil
}

func wrapper(secret, salt []byte) (cipher.AEAD, []byte, error) {
	k, err := hkdf.Key(sha256.New, secret, salt, "weir CA key", 32+12)
	if err != nil {
		return nil, nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	return gcm, k[32:], nil
}
