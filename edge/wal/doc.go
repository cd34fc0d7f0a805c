// Package wal is the gateway's local buffer: records that were accepted from
// devices and that the cloud has not acknowledged yet, on this machine's disk.
//
// # What happens when a batch is appended
//
// Append encodes the batch as one frame, writes it behind the newest one of its
// lane and syncs the file. When it returns without an error the batch is
// durable: it survives kill -9 and a power cut. Any error of a write or a sync
// ends the current buffer: the batch is not stored, the buffer is sealed behind
// its last durable record, and a new buffer with a new id takes its place. No
// place is ever written twice.
//
// # Buffers and lanes
//
// Each Open, and each failed write, begins a new buffer. Within a buffer every
// lane has its own sequence, which starts at 1 and only grows, and its own
// files, so lanes never wait for each other. Nothing is appended to a buffer
// of an earlier open. So no sequence is ever given out twice, whatever a power
// cut, a card that lied about a sync or a restored image did to that buffer.
//
// # Damage
//
// Open always succeeds, whatever the damage. Frames carry checksums and their
// own place, so reading skips what is damaged up to the next intact frame. The
// sequences in between are a hole. A hole is an Item like a record: a Gap that
// says which sequences are missing. It is written down durably before it is
// handed out, so that it stays a gap even if the bytes come back.
//
// # What is missing
//
// A missing file or folder is not taken for one that never existed. Beside the
// buffers lie the names of those that must exist, and how far the newest came.
// Open makes a missing buffer or lane again, as one of which every record is a
// hole.
//
// FORMAT.md beside this file has the byte tables.
package wal
