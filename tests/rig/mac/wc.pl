#!/usr/bin/perl
# Apple's wc prints numbers in columns of 8, with blanks before them, and names in its own way:
# what is not ASCII comes out changed where the locale is C (text_cmds, wc.c, by libxo).
my ($columns, @flags) = (0);
for (@ARGV) { last if !/^-./ or $_ eq '--'; $columns += tr/clmw//; }
$columns ||= 3;
open(my $from, '-|', '/.rig/bin/gnu/wc', @ARGV) or exit 1;
while (<$from>) {
    chomp;
    s/^\s+//;
    my @words = split / +/, $_, $columns + 1;
    my $name = @words > $columns ? pop @words : '';
    $name =~ s/[^\x00-\x7f]/?/g if ($ENV{LC_ALL} || $ENV{LC_CTYPE} || $ENV{LANG} || 'C') =~ /^(C|POSIX)$/;
    print map({ sprintf ' %7s', $_ } @words), $name eq '' ? '' : " $name", "\n";
}
close($from);
exit($? >> 8);
