#!/usr/bin/perl
# openrsync of macOS 15 and later as it starts its peer: it takes --rsync-path apart at blanks, takes
# quotes away, and ssh joins the words by blanks (apple-oss-distributions/rsync, rsync-182,
# openrsync/fargs.c, fargs_cmdline_prog). The rest is rsync's.
sub apart {
    my @c = split //, shift;
    my ($from, $at, $last, @words) = (0, 0, '');
    for (; $at < @c; $at++) {
        if ($c[$at] =~ /[ \t-\r]/) {
            $last = '';
            push @words, join '', @c[$from .. $at - 1];
            $at++ while $at + 1 < @c && $c[$at + 1] =~ /[ \t-\r]/;
            $from = $at + 1;
        } elsif ($c[$at] =~ /['"]/) {
            my ($quote, $end) = ($c[$at], $at + 1);
            # The first quote of a word's second quoted part stays, if it is the same.
            splice(@c, $end = $at, 1) if $from == $at || $quote ne $last;
            $end++ while $end < @c && $c[$end] ne $quote;
            die "rsync: error: Missing terminating `$quote` in specified remote-shell command\n"
                if $end == @c;
            splice @c, $at = $end, 1;
            $at--;
            $last = $quote;
        }
    }
    return @words, $at > $from ? join('', @c[$from .. $at - 1]) : ();
}

# As the remote shell of the real rsync, which hands the path over as one word.
if (defined(my $path = $ENV{RIG_RSYNC_PATH})) {
    my @rsh = apart(delete $ENV{RIG_RSH});
    delete $ENV{RIG_RSYNC_PATH};
    exec @rsh, map { $_ eq $path ? apart($path) : $_ } @ARGV;
}
if ("@ARGV" eq '--version') {
    print "openrsync: protocol version 29\nrsync version 2.6.9 compatible\n";
    exit 0;
}
my ($path) = map { /^--rsync-path=(.*)/s } @ARGV;
if (defined $path) {
    my @words = ('ssh', @ARGV);
    for my $at (reverse 1 .. $#words) {
        next unless $words[$at] =~ /^(?:-e$|--rsh=(.*))/s;
        $words[0] = defined $1 ? $1 : splice @words, $at + 1, 1;
        splice @words, $at, 1;
    }
    @ENV{'RIG_RSH', 'RIG_RSYNC_PATH'} = (shift @words, $path);
    @ARGV = ("--rsh=$0", @words);
}
exec $ENV{RIG_RSYNC} || '/.rig/bin/gnu/rsync', @ARGV;
