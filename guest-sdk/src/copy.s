// Copying and filling memory. The compiler's own builtins go by bytes where two addresses are aligned differently, for this target allows
// no unaligned access; here the MMU is on, memory is Normal and SCTLR_EL1.A is clear, so that unaligned accesses work (Arm ARM B2.8.2).

.macro function name
    .section .text.\name, "ax"
    .balign 16
    .global \name
    .type \name, %function
\name:
.endm

// In: x0 = to, x1 = from, x2 = bytes. Out: x0 as it was. Clobbers x2 to x8.
// Forwards, each store behind all loads from lower addresses: also right where `to` lies below `from` and both overlap.
function memcpy
    mov     x3, x0
    subs    x2, x2, #32
    b.lo    1f
0:  ldp     x4, x5, [x1]
    ldp     x6, x7, [x1, #16]
    add     x1, x1, #32
    stp     x4, x5, [x3]
    stp     x6, x7, [x3, #16]
    add     x3, x3, #32
    subs    x2, x2, #32
    b.hs    0b
1:  tst     x2, #31                             // what is left, less 32
    b.eq    5f
    tbz     x2, #4, 2f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
2:  tbz     x2, #3, 3f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
3:  tbz     x2, #2, 4f
    ldr     w4, [x1], #4
    str     w4, [x3], #4
4:  tbz     x2, #1, 6f
    ldrh    w4, [x1], #2
    strh    w4, [x3], #2
6:  tbz     x2, #0, 5f
    ldrb    w4, [x1]
    strb    w4, [x3]
5:  ret

// As `memcpy`, and the two may overlap.
function memmove
    sub     x4, x0, x1
    cmp     x4, x2
    b.hs    memcpy                              // not behind `from`, or beyond its end
    add     x1, x1, x2                          // backwards
    add     x3, x0, x2
    subs    x2, x2, #32
    b.lo    1f
0:  ldp     x4, x5, [x1, #-16]
    ldp     x6, x7, [x1, #-32]
    sub     x1, x1, #32
    stp     x4, x5, [x3, #-16]
    stp     x6, x7, [x3, #-32]
    sub     x3, x3, #32
    subs    x2, x2, #32
    b.hs    0b
1:  tbz     x2, #4, 2f
    ldp     x4, x5, [x1, #-16]!
    stp     x4, x5, [x3, #-16]!
2:  tbz     x2, #3, 3f
    ldr     x4, [x1, #-8]!
    str     x4, [x3, #-8]!
3:  tbz     x2, #2, 4f
    ldr     w4, [x1, #-4]!
    str     w4, [x3, #-4]!
4:  tbz     x2, #1, 5f
    ldrh    w4, [x1, #-2]!
    strh    w4, [x3, #-2]!
5:  tbz     x2, #0, 6f
    ldrb    w4, [x1, #-1]
    strb    w4, [x3, #-1]
6:  ret

// In: x0 = to, w1 = byte, x2 = bytes. Out: x0 as it was. Clobbers x1 to x3.
function memset
    mov     x3, x0
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
    subs    x2, x2, #64
    b.lo    1f
0:  stp     x1, x1, [x3]
    stp     x1, x1, [x3, #16]
    stp     x1, x1, [x3, #32]
    stp     x1, x1, [x3, #48]
    add     x3, x3, #64
    subs    x2, x2, #64
    b.hs    0b
1:  tbz     x2, #5, 2f
    stp     x1, x1, [x3], #16
    stp     x1, x1, [x3], #16
2:  tbz     x2, #4, 3f
    stp     x1, x1, [x3], #16
3:  tbz     x2, #3, 4f
    str     x1, [x3], #8
4:  tbz     x2, #2, 5f
    str     w1, [x3], #4
5:  tbz     x2, #1, 6f
    strh    w1, [x3], #2
6:  tbz     x2, #0, 7f
    strb    w1, [x3]
7:  ret
