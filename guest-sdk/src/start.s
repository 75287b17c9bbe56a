// From the control OS's hands to Rust: tables, MMU, caches, stacks, vectors.
//
// Stage 1 is an identity map of the whole 39-bit address space (Arm ARM D8.2; 4 KiB granule, starting at level 1):
//   entry 0          devices               Device-nGnRE, execute-never
//   entry 1          memory, by 2 MiB      read-write, execute-never, but for the image's own 2 MiB, mapped by pages:
//                                          code read-only and executable, constants read-only, the rest read-write
//   entries 2-191    memory
//   entries 192-255  the boot archive      read-only
//   entries 256-511  the message window
// All but the devices Normal, inner and outer write-back, inner shareable.
// With the feature `upper` the program is linked in the upper half of the address space, where TTBR1_EL1 has the same table.

.equ DESCRIPTOR_BLOCK,  0x1                             // valid, block (levels 1 and 2)
.equ DESCRIPTOR_TABLE,  0x3                             // valid, table
.equ DESCRIPTOR_PAGE,   0x3                             // valid, page (level 3)
.equ DEVICE,            (1 << 10)                       // AF, attribute index 0
.equ NORMAL,            (1 << 10) | (3 << 8) | (1 << 2) // AF, inner shareable, attribute index 1
.equ READ_ONLY,         (1 << 7)                        // AP[2]

.equ MAIR,              0xff04                          // 1: Normal write-back, 0: Device-nGnRE
// T0SZ 25 (39 bits), walks write-back and inner shareable, 4 KiB, 40 bits of physical address
.equ TCR,               25 | (1 << 8) | (1 << 10) | (3 << 12) | (2 << 32) | {UPPER_TCR}
// LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS; I, SA0, SA, C, M
.equ SCTLR,             0x30d00800 | (1 << 12) | (1 << 4) | (1 << 3) | (1 << 2) | (1 << 0)

.macro address register, symbol
    adrp    \register, \symbol
    add     \register, \register, :lo12:\symbol
.endm

// x\register = upper attributes UXN and PXN
.macro execute_never register
    mov     \register, #(3 << 53)
.endm

.section .text.start, "ax"
.global _start
// In: x0 passed on to Rust. MMU and caches off, so no atomics and no unaligned accesses before `enable_mmu`.
_start:
    msr     daifset, #0xf
    mov     x19, x0

    address x0, __bss_start
    address x1, __bss_end
0:  cmp     x0, x1
    b.hs    1f
    stp     xzr, xzr, [x0], #16
    b       0b
1:
    address x0, __level1
    execute_never x4

    mov     x1, #(DEVICE | DESCRIPTOR_BLOCK)
    orr     x1, x1, x4
    str     x1, [x0]

    address x1, __level2
    orr     x1, x1, #DESCRIPTOR_TABLE
    str     x1, [x0, #8]

    mov     x1, #(NORMAL | DESCRIPTOR_BLOCK)
    orr     x1, x1, x4
    mov     x2, #2                              // index
2:  add     x3, x1, x2, lsl #30
    and     x5, x2, #0x1c0
    cmp     x5, #192
    b.ne    3f
    orr     x3, x3, #READ_ONLY
3:  str     x3, [x0, x2, lsl #3]
    add     x2, x2, #1
    cmp     x2, #512
    b.ne    2b

    address x0, __level2
    mov     x2, #0x40000000                     // memory's start
    add     x1, x1, x2
    mov     x2, #0
4:  add     x3, x1, x2, lsl #21
    str     x3, [x0, x2, lsl #3]
    add     x2, x2, #1
    cmp     x2, #512
    b.ne    4b

    adrp    x5, __image_start                   // the image's own 2 MiB
    ubfx    x2, x5, #21, #9
    address x1, __level3
    orr     x3, x1, #DESCRIPTOR_TABLE
    str     x3, [x0, x2, lsl #3]

    and     x5, x5, #~0x1fffff
    address x6, __text_end
    address x7, __rodata_end
    adrp    x8, __image_start
    mov     x2, #0
5:  mov     x3, #(NORMAL | DESCRIPTOR_PAGE)
    orr     x3, x3, x5
    cmp     x5, x8
    b.lo    7f
    cmp     x5, x7
    b.hs    7f
    orr     x3, x3, #READ_ONLY
    cmp     x5, x6
    b.hs    7f
    orr     x3, x3, #(1 << 54)                  // UXN alone
    b       8f
7:  orr     x3, x3, x4
8:  str     x3, [x1, x2, lsl #3]
    add     x5, x5, #0x1000
    add     x2, x2, #1
    cmp     x2, #512
    b.ne    5b

    // What was written with the caches off must not be hidden by lines that are in them.
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4                     // DminLine: log2 of words
    mov     x3, #4
    lsl     x2, x3, x2
    address x0, __bss_start
    address x1, __bss_end
9:  cmp     x0, x1
    b.hs    10f
    dc      civac, x0
    add     x0, x0, x2
    b       9b
10: bl      enable_mmu
    ldr     x0, =11f                            // to where it is linked
    br      x0
11:
    address x0, __stack_0
    address x1, __exception_stacks
    bl      enable_stacks
    mov     x0, x19
    bl      handover_start
    b       .

.global handover_start_secondary
// In: x0 = index of this processor, 1 to 7.
handover_start_secondary:
    msr     daifset, #0xf
    mov     x19, x0
    bl      enable_mmu
    ldr     x0, =12f
    br      x0
12: address x0, __stacks
    add     x0, x0, x19, lsl #16                // STACK_SIZE
    address x1, __exception_stacks
    add     x1, x1, x19, lsl #14                // EXCEPTION_STACK_SIZE
    bl      enable_stacks
    mov     x0, x19
    bl      handover_secondary
    b       .

// Clobbers x0.
enable_mmu:
    ldr     x0, =MAIR
    msr     mair_el1, x0
    ldr     x0, =TCR
    msr     tcr_el1, x0
    adrp    x0, __level1
    msr     ttbr0_el1, x0
    msr     ttbr1_el1, x0
    msr     cpacr_el1, xzr                      // the program has no floating point
    msr     tpidr_el1, xzr                      // CATCH_NONE
    dsb     sy
    ic      iallu
    tlbi    vmalle1
    dsb     sy
    isb
    ldr     x0, =SCTLR
    msr     sctlr_el1, x0
    isb
    ret
.ltorg

// In: x0 = top of the stack, x1 = top of the exception stack. Rust runs on SP_EL0, so that an exception handler has a
// stack when the program has run out of its own.
enable_stacks:
    address x2, __vectors
    msr     vbar_el1, x2
    msr     spsel, #1
    mov     sp, x1
    msr     spsel, #0
    mov     sp, x0
    isb
    msr     daifclr, #4                         // SErrors
    mov     x29, xzr
    ret

.section .bss.tables, "aw", @nobits
.balign 4096
__level1: .skip 4096
__level2: .skip 4096
__level3: .skip 4096

.section .noinit, "aw", @nobits
.balign 4096
.skip 0x4000                                    // exception stack of processor 0
__exception_stacks:                             // processor n's top is n * 16 KiB above
.skip 7 * 0x4000
.skip 0x20000                                   // 128 KiB for processor 0
__stack_0:
__stacks:                                       // processor n's top is n * 64 KiB above
.skip 7 * 0x10000
