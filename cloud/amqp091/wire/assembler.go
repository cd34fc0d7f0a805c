package wire

// Assembler puts the frames of one channel together: a method, and the content header and
// the body that follow some methods. What it holds grows with what arrives. The zero value
// with From and MaxBody set is ready.
type Assembler struct {
	From    Sender // the end that sends the frames
	MaxBody uint64 // bytes; a larger body is refused when its header arrives

	method     Method
	class      uint16 // of the content header that must follow; 0: a method must follow
	left       uint64 // bytes of the body that must follow
	size       uint64
	properties []byte
	body       []byte
}

// Add takes the next frame of the channel, and reports whether a method is complete with
// all of its content. Until the next call Method, Properties and Body return it. After an
// *Error, the frames that are still to come are those of no method.
func (a *Assembler) Add(f Frame) (bool, error) {
	switch {
	case f.Channel == 0 && f.Type != FrameMethod:
		return false, badFrame(UnexpectedFrame, f, "")
	case a.class != 0:
		return a.header(f)
	case a.left > 0:
		return a.piece(f)
	case f.Type != FrameMethod:
		return false, failed(UnexpectedFrame, 0, "expected method frame, got non method frame instead")
	}
	a.properties, a.body = a.properties[:0], nil
	id, args := SplitMethod(f.Payload)
	if a.method == nil || a.method.ID() != id {
		if a.method = NewMethod(id); a.method == nil {
			return false, failed(NotImplemented, id, "no method %d in class %d", id.Method(), id.Class())
		}
	}
	if err := a.method.Decode(args); err != nil {
		return false, err
	}
	if f.Channel != 0 && !id.SentBy(a.From) {
		return false, failed(CommandInvalid, id, "unimplemented method")
	}
	if id.Content() {
		a.class = id.Class()
		return false, nil
	}
	return true, nil
}

func (a *Assembler) header(f Frame) (bool, error) {
	want := a.class
	a.class = 0
	if f.Type != FrameHeader || weight(f.Payload) != 0 {
		return false, failed(UnexpectedFrame, a.method.ID(), "expected content header for class %d, got non content header frame instead", want)
	}
	h := SplitHeader(f.Payload)
	if h.Class != want {
		return false, failed(UnexpectedFrame, a.method.ID(), "expected content header for class %d, got one for class %d instead", want, h.Class)
	}
	if h.Size > a.MaxBody {
		return false, failed(PreconditionFailed, a.method.ID(), "message size %d is larger than configured max size %d", h.Size, a.MaxBody)
	}
	a.properties = append(a.properties, h.Properties...)
	a.size, a.left = h.Size, h.Size
	return a.left == 0, nil
}

func (a *Assembler) piece(f Frame) (bool, error) {
	if f.Type != FrameBody {
		a.left = 0
		return false, failed(UnexpectedFrame, a.method.ID(), "expected content body, got non content body frame instead")
	}
	n := uint64(len(f.Payload))
	if n > a.left {
		a.left = 0
		return false, failed(FrameError, a.method.ID(), "content body frame exceeds remaining content size")
	}
	a.left -= n
	switch {
	case a.body == nil && (a.left == 0 || f.Owned):
		a.body = f.Payload
	case len(a.body)+len(f.Payload) > cap(a.body):
		grown := min(a.size, 2*uint64(len(a.body)+len(f.Payload)))
		a.body = append(append(make([]byte, 0, grown), a.body...), f.Payload...)
	default:
		a.body = append(a.body, f.Payload...)
	}
	return a.left == 0, nil
}

// Method returns the method that is complete. A method of the same id is decoded into the
// same memory by the next call of Add.
func (a *Assembler) Method() Method { return a.method }

// Properties returns the properties of the content, as Properties.Decode takes them.
func (a *Assembler) Properties() []byte { return a.properties }

// Body returns the body of the content. A body of one frame is the payload of that frame,
// and valid as long as that.
func (a *Assembler) Body() []byte { return a.body }

// Idle reports whether the next frame must be a method.
func (a *Assembler) Idle() bool { return a.class == 0 && a.left == 0 }
