package attach

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"conmon/internal/stdio"
)

const (
	// packetData is how much output goes into a packet behind the byte that names
	// its stream. Podman reads with a buffer of 8193 bytes and loses the rest of a
	// longer packet; the kernel puts what is longer than 7872, with its own part,
	// into 16 kB.
	packetData = 7871
	// batchPackets is how many packets one system call sends. A socket of the
	// default size holds fewer.
	batchPackets = 32
)

// A record in the spool is a packet with its length in front (two bytes, little
// endian, without the stream's byte).
const (
	lengthSize = 2
	recordHead = lengthSize + 1
)

// streamByte holds the first bytes of packets, at addresses that do not change.
var streamByte = [...]byte{stdio.Stdout: byte(stdio.Stdout), stdio.Stderr: byte(stdio.Stderr)}

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	_      uint32 // how much of it was sent: all, or it is not counted as sent
}

// batch is a series of packets in the kernel's form. It points into the caller's
// data and is to be cleared before that goes away.
type batch struct {
	n        int
	messages [batchPackets]message
	parts    [batchPackets][2]unix.Iovec
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.messages {
		b.messages[i].header.Iov = &b.parts[i][0]
	}
	return b
}

// packets makes data, at most batchPackets*packetData bytes of stream, the batch.
func (b *batch) packets(stream stdio.Stream, data []byte) {
	b.n = 0
	for len(data) > 0 {
		n := min(len(data), packetData)
		p := &b.parts[b.n]
		p[0].Base = &streamByte[stream]
		p[0].SetLen(1)
		p[1].Base = &data[0]
		p[1].SetLen(n)
		b.messages[b.n].header.SetIovlen(2)
		b.n++
		data = data[n:]
	}
}

// records makes the whole records at the start of view the batch.
func (b *batch) records(view []byte) {
	for b.n = 0; b.n < batchPackets; b.n++ {
		size := recordSize(view)
		if size == 0 {
			return
		}
		p := &b.parts[b.n]
		p[0].Base = &view[lengthSize]
		p[0].SetLen(size - lengthSize)
		b.messages[b.n].header.SetIovlen(1)
		view = view[size:]
	}
}

// bytes returns how much of the spool the first n packets, made of records,
// took.
func (b *batch) bytes(n int) (total int64) {
	for i := range n {
		total += int64(b.parts[i][0].Len) + lengthSize
	}
	return total
}

// send sends the packets to fd and returns how many were sent; fewer than all
// mean that the socket is full, or that its next event tells why not. An error
// means that the client takes no more output.
func (b *batch) send(fd int) (int, error) {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages)),
			uintptr(b.n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// clear forgets the data: the collector must not find pointers to memory that
// was unmapped in the meantime.
func (b *batch) clear() {
	clear(b.parts[:b.n])
	b.n = 0
}

// recordSize returns the size of the record at the start of view, 0 if it is not
// all there.
func recordSize(view []byte) int {
	if len(view) < recordHead {
		return 0
	}
	size := recordHead + int(binary.LittleEndian.Uint16(view))
	if size > len(view) {
		return 0
	}
	return size
}
