#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)
//
// The child shares the stack; the return address is in a register.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-32
	MOV   flags+0(FP), A0
	MOV   ZERO, A1 // stack: the same
	MOV   pidfd+8(FP), A2
	MOV   ZERO, A3
	MOV   ZERO, A4
	MOV   $220, A7 // clone
	ECALL
	MOV   $-4096, T0
	BLTU  T0, A0, failed
	MOV   A0, pid+16(FP)
	MOV   ZERO, errno+24(FP)
	RET
failed:
	SUB   A0, ZERO, A0
	MOV   ZERO, pid+16(FP)
	MOV   A0, errno+24(FP)
	RET
