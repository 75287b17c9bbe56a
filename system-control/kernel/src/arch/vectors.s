// From a program to the kernel and back. A program runs at EL0; while it does, SP_EL1 is the address of its thread's registers, so
// that nothing has to be looked up to save them. The kernel runs at EL1 on SP_EL1, on one stack, from its start each time.
//
// struct Registers: x0 to x30, sp, pc, pstate.

.macro unix_vector target
    .balign 0x80
    b       \target
.endm

.macro save_registers
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
    mrs     x1, sp_el0
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x30, x1, [sp, #240]
    stp     x2, x3, [sp, #256]
    mov     x0, sp
    adrp    x1, unix_stack
    ldr     x1, [x1, :lo12:unix_stack]
    mov     sp, x1
    mov     x29, xzr
.endm

.section .text.unix_vectors, "ax"
.balign 0x800
.global unix_vectors
unix_vectors:
    unix_vector  kernel_exception    // EL1 on SP_EL0: never
    unix_vector  kernel_exception
    unix_vector  kernel_exception
    unix_vector  kernel_exception
    unix_vector  kernel_exception    // EL1 on SP_EL1: the kernel, which runs with interrupts masked
    unix_vector  kernel_exception
    unix_vector  kernel_exception
    unix_vector  kernel_exception
    unix_vector  program_synchronous // EL0, AArch64
    unix_vector  program_interrupt
    unix_vector  program_interrupt
    unix_vector  kernel_exception
    unix_vector  kernel_exception    // EL0, AArch32: never
    unix_vector  kernel_exception
    unix_vector  kernel_exception
    unix_vector  kernel_exception

program_synchronous:
    save_registers
    mrs     x1, esr_el1
    bl      unix_synchronous
    b       unix_resume

program_interrupt:
    save_registers
    bl      unix_interrupt
    // falls through

// In: x0 = registers. Does not return.
.global unix_resume
unix_resume:
    mov     sp, x0
    ldp     x2, x3, [sp, #256]
    ldp     x30, x1, [sp, #240]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    msr     sp_el0, x1
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
    eret

// A fault of the kernel's own: said on a stack of its own, and the end.
kernel_exception:
    adrp    x0, unix_fault_stack
    add     x0, x0, :lo12:unix_fault_stack
    mov     sp, x0
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    bl      unix_kernel_exception
    b       .

// In: x0 = the function that goes on, which does not return. The start code's stack becomes the kernel's, on SP_EL1, and the rest of
// it is where each exception begins.
.global unix_take_over
unix_take_over:
    mov     x1, sp
    and     x1, x1, #~0xf
    adrp    x2, unix_stack
    str     x1, [x2, :lo12:unix_stack]
    adrp    x2, unix_vectors
    add     x2, x2, :lo12:unix_vectors
    msr     vbar_el1, x2
    msr     spsel, #1
    mov     sp, x1
    isb
    br      x0

// In: x0 = 32 vector registers' place, followed by FPSR and FPCR. Clobbers x1, x2.
.arch_extension fp
.arch_extension simd
.global unix_save_vectors
unix_save_vectors:
    stp     q0, q1, [x0, #0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    stp     q8, q9, [x0, #128]
    stp     q10, q11, [x0, #160]
    stp     q12, q13, [x0, #192]
    stp     q14, q15, [x0, #224]
    stp     q16, q17, [x0, #256]
    stp     q18, q19, [x0, #288]
    stp     q20, q21, [x0, #320]
    stp     q22, q23, [x0, #352]
    stp     q24, q25, [x0, #384]
    stp     q26, q27, [x0, #416]
    stp     q28, q29, [x0, #448]
    stp     q30, q31, [x0, #480]
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret

.global unix_load_vectors
unix_load_vectors:
    ldp     q0, q1, [x0, #0]
    ldp     q2, q3, [x0, #32]
    ldp     q4, q5, [x0, #64]
    ldp     q6, q7, [x0, #96]
    ldp     q8, q9, [x0, #128]
    ldp     q10, q11, [x0, #160]
    ldp     q12, q13, [x0, #192]
    ldp     q14, q15, [x0, #224]
    ldp     q16, q17, [x0, #256]
    ldp     q18, q19, [x0, #288]
    ldp     q20, q21, [x0, #320]
    ldp     q22, q23, [x0, #352]
    ldp     q24, q25, [x0, #384]
    ldp     q26, q27, [x0, #416]
    ldp     q28, q29, [x0, #448]
    ldp     q30, q31, [x0, #480]
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
.arch_extension nosimd
.arch_extension nofp

// What a signal handler returns to: mov x8, #rt_sigreturn; svc. It is copied to a page of its own in each address space.
.section .rodata.unix_trampoline, "a"
.balign 4
.global unix_trampoline
unix_trampoline:
    .inst   0xd2801168                          // mov x8, #139
    .inst   0xd4000001                          // svc #0

.section .data.unix_stack, "aw"
.balign 8
unix_stack: .quad 0

.section .noinit.unix_fault_stack, "aw", @nobits
.balign 4096
.skip 0x2000
unix_fault_stack:
