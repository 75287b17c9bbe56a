// Exception vectors. Rust runs at EL1 on SP_EL0, handlers on SP_EL1.

// struct Frame: x0 to x30, SP_EL0, ELR, SPSR, ESR, FAR.
.equ FRAME_SIZE, 36 * 8

.macro save_frame
    sub     sp, sp, #FRAME_SIZE
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x0, sp_el0
    stp     x30, x0, [sp, #240]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [sp, #256]
    mrs     x0, esr_el1
    mrs     x1, far_el1
    stp     x0, x1, [sp, #272]
.endm

.macro restore_frame
    ldp     x0, x1, [sp, #256]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp     x30, x0, [sp, #240]
    msr     sp_el0, x0
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    add     sp, sp, #FRAME_SIZE
    eret
.endm

.macro vector target
    .balign 0x80
    b       \target
.endm

.section .text.vectors, "ax"
.balign 0x800
__vectors:
    vector  synchronous         // EL1 on SP_EL0: the program
    vector  interrupt
    vector  unexpected
    vector  unexpected
    vector  unexpected          // EL1 on SP_EL1: a handler
    vector  unexpected
    vector  unexpected
    vector  unexpected
    vector  synchronous         // EL0, AArch64
    vector  interrupt
    vector  unexpected
    vector  unexpected
    vector  unexpected          // EL0, AArch32
    vector  unexpected
    vector  unexpected
    vector  unexpected

synchronous:
    save_frame
    mov     x0, sp
    bl      handover_synchronous
    restore_frame

// Of what was interrupted, a handler changes what a procedure call may change (AAPCS64), and what the next exception would.
interrupt:
    sub     sp, sp, #11 * 16
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x30, [sp, #144]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [sp, #160]
    bl      handover_interrupt
    ldp     x0, x1, [sp, #160]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x30, [sp, #144]
    add     sp, sp, #11 * 16
    eret

unexpected:
    save_frame
    mov     x0, sp
    bl      handover_unexpected
    b       .

// extern "C" fn handover_catch(function: extern "C" fn(*mut ()), data: *mut (), fault: *mut Fault) -> bool
//
// Calls `function(data)`. TPIDR_EL1 holds the innermost call's frame: the callee-saved registers, the outer TPIDR_EL1
// at 96, DAIF at 104, `fault` at 112. On a fault the handler returns to `handover_catch_fault` with SP at that frame.
.section .text.catch, "ax"
.global handover_catch
handover_catch:
    stp     x29, x30, [sp, #-128]!
    mov     x29, sp
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mrs     x3, tpidr_el1
    mrs     x4, daif
    stp     x3, x4, [sp, #96]
    str     x2, [sp, #112]
    mov     x3, sp
    msr     tpidr_el1, x3
    mov     x3, x0
    mov     x0, x1
    blr     x3
    mov     x0, #0
    b       0f
.global handover_catch_fault
handover_catch_fault:
    mov     x0, #1
0:  ldr     x3, [sp, #96]
    msr     tpidr_el1, x3
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #128
    ret
