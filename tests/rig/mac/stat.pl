#!/usr/bin/perl
# stat with -f FORMAT, in BSD's letters; -L follows links, -n writes no newline.
my ($format, $follow, $end) = (undef, 0, "\n");
while (@ARGV and $ARGV[0] =~ /^-(.)(.*)/s) {
    my ($letter, $rest) = ($1, $2);
    shift;
    last if $letter eq '-';
    if ($letter eq 'f') { $format = $rest ne '' ? $rest : shift; next }
    $follow = 1 if $letter eq 'L';
    $end = '' if $letter eq 'n';
    unshift @ARGV, "-$rest" if $rest ne '';
}
die "stat: a test host knows -f only\n" unless defined $format;
my $failed = 0;
for my $file (@ARGV) {
    my @is = $follow ? stat $file : lstat $file;
    if (!@is) { print STDERR "stat: $file: stat: $!\n"; $failed = 1; next }
    my %letter = (
        d => $is[0], i => $is[1], p => sprintf('%o', $is[2]), l => $is[3], u => $is[4], g => $is[5],
        z => $is[7], a => $is[8], m => $is[9], c => $is[10], N => $file, '%' => '%', n => "\n",
        Lp => sprintf('%o', $is[2] & 07777), Su => scalar getpwuid($is[4]), Sg => scalar getgrgid($is[5]),
    );
    (my $text = $format) =~ s/%(L?p|S[ug]|[a-zN%])/exists $letter{$1} ? $letter{$1} : ''/ge;
    print $text, $end;
}
exit $failed;
