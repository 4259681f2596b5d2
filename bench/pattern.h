/* Letters that both ends of the bench know, so that a large body is checked to its last byte. */
#include <stddef.h>
#include <stdint.h>

#define MAX_PATTERN (16u << 20)
#define MARK 32 /* so many letters of it are found nowhere else */

static inline void fill_pattern(char *to, size_t len)
{
    uint32_t state = 1;
    for (size_t i = 0; i < len; i++) {
        state = state * 1103515245u + 12345u;
        to[i] = (char)('a' + (state >> 16) % 26);
    }
}
