#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)
//
// The child shares the stack, and by its next call overwrites the return address
// that the parent will need: so that is in a register while there are two.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ flags+0(FP), DI
	MOVQ pidfd+8(FP), DX
	XORL SI, SI // stack: the same
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // clone
	POPQ R12
	SYSCALL
	PUSHQ R12
	CMPQ AX, $-4095
	JCC  failed
	MOVQ AX, pid+16(FP)
	MOVQ $0, errno+24(FP)
	RET
failed:
	NEGQ AX
	MOVQ $0, pid+16(FP)
	MOVQ AX, errno+24(FP)
	RET
