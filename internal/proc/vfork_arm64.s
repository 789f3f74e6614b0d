#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)
//
// The child shares the stack; the return address is in a register.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-32
	MOVD flags+0(FP), R0
	MOVD ZR, R1 // stack: the same
	MOVD pidfd+8(FP), R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // clone
	SVC
	CMN  $4095, R0
	BCS  failed
	MOVD R0, pid+16(FP)
	MOVD ZR, errno+24(FP)
	RET
failed:
	NEG  R0, R0
	MOVD ZR, pid+16(FP)
	MOVD R0, errno+24(FP)
	RET
