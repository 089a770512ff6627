#!/usr/bin/perl
# A macOS command of a test host: process 1 does it (server.py).
for my $try (1 .. 100) {
    socket(my $to, 1, 1, 0) or last;
    if (connect($to, pack('S a108', 1, '/run/rig.socket'))) {
        my $said = '';
        sysread($to, $said, 4096);
        if ($said =~ s/^=//) { # the answer itself
            do { print $said } while sysread($to, $said, 65536);
            exit 0;
        }
        exit($said eq '' ? 255 : $said);
    }
    select(undef, undef, undef, 0.05);
}
die "$0: process 1 does not answer: $!\n";
