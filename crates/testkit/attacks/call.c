/* One system call, as it is typed: `call NUMBER ARGUMENT…`. An argument is a number, `s:TEXT`, or `z:N` for N zero bytes. Tells what came of it.
 * `call again NUMBER …` makes it without end, and tells nothing. `call 32 NUMBER …` makes it the way that programs of 32 bits do; its pointers are below 4 GiB then, since the program is linked there. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char memory[6][65536];

static long argument(int index, const char *text) {
    if (strncmp(text, "s:", 2) == 0) {
        strncpy(memory[index], text + 2, sizeof memory[index] - 1);
        return (long)memory[index];
    }
    if (strncmp(text, "z:", 2) == 0)
        return (long)memory[index];
    return strtol(text, NULL, 0);
}

int main(int count, char **words) {
    int is_32 = count > 1 && strcmp(words[1], "32") == 0;
    int is_again = count > 1 && strcmp(words[1], "again") == 0;
    int first = is_32 || is_again ? 2 : 1;
    long number, given[6] = {0}, result;
    if (count <= first)
        return 64;
    number = strtol(words[first], NULL, 0);
    for (int index = 0; index < 6 && first + 1 + index < count; index++)
        given[index] = argument(index, words[first + 1 + index]);
    while (is_again)
        syscall(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    if (is_32) {
#ifdef __x86_64__
        int answer;
        __asm__ volatile("int $0x80"
                         : "=a"(answer)
                         : "a"((int)number), "b"((int)given[0]), "c"((int)given[1]), "d"((int)given[2]), "S"((int)given[3])
                         : "memory", "r8", "r9", "r10", "r11");
        result = answer < 0 ? -1 : answer;
        errno = answer < 0 ? -answer : 0;
#else
        return 65;
#endif
    } else {
        errno = 0;
        result = syscall(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    }
    if (result == -1)
        printf("%s\n", strerrorname_np(errno));
    else
        printf("done: %ld\n", result);
    return 0;
}
